"""Where a training run took place."""

from pydantic import Field

from tuner.specs.spec import Spec


class Build(Spec):
    """What decides, besides the task itself, which bits a training run gives."""

    tuner: str = Field(description="version")
    python: str
    torch: str
    numpy: str
    system: str = Field(examples=["Linux x86_64"])
    cpu: str = Field(description="the processor's model", examples=["Intel(R) Xeon(R) CPU @ 2.80GHz"])
    capability: str = Field(description="the instructions that torch uses of it", examples=["AVX512"])
    threads: int = Field(description="of one training run")
