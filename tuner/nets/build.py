"""What this process trains with."""

import platform
from functools import cache
from pathlib import Path

import numpy as np
import torch

from tuner import __version__
from tuner.specs.build import Build


def this_build() -> Build:
    """Of this process, as it is set up now."""
    return Build(
        tuner=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=np.__version__,
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
    )


@cache
def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # `platform.processor` is empty on most Linux systems
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
