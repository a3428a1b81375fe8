"""`tuner run` and the questions one asks afterwards, as processes: on a data folder alone, and at a service's address."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Terminal
from tests.serving import TINY, TUNER, Service, environment, serving, small_nets, tuner, wait_for
from tuner.client import flow


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A data folder on which `tuner run` has run the study `tiny`, and what it said."""
    data_dir = tmp_path_factory.mktemp("searched") / "data"
    spec = data_dir.parent / "tiny.json"
    spec.write_text(json.dumps(TINY))
    return data_dir, tuner("run", str(spec), data_dir=data_dir)


@pytest.fixture(scope="module")
def service(searched: tuple[Path, subprocess.CompletedProcess[str]]) -> Iterator[Service]:
    """A service on that folder."""
    with serving(searched[0]) as service:
        yield service


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(service: Service, terminal: Terminal) -> Ask:
    """`tuner …` in this process, with nothing but the service's address: exit code, standard output, standard error."""

    def ask(command: str, stdin: str = "") -> tuple[int, str, str]:
        ran = terminal(*command.split(), stdin=stdin, TUNER_URL=service.url)
        return ran.returncode, ran.stdout, ran.stderr

    return ask


def test_run_shows_its_way_and_its_best(searched: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Without a service, `tuner run` does the work itself: progress on standard error, the table on standard output."""
    _, ran = searched
    assert ran.returncode == 0, ran.stderr
    assert "tiny: succeeded 100%" in ran.stderr
    assert "4/4 trials" in ran.stderr
    assert "The best configurations of tiny, by search" in ran.stdout
    assert "Search: 4 trials" in ran.stdout


def test_questions_need_no_service(searched: tuple[Path, subprocess.CompletedProcess[str]], terminal: Terminal) -> None:
    """The same app answers in the command's own process."""
    shown = terminal("study", "show", "tiny", TUNER_DATA_DIR=str(searched[0]))
    assert shown.returncode == 0
    assert "4: 4 complete, 0 pruned, 0 failed, 0 running, 0 waiting" in shown.stdout


def test_a_question_makes_no_database(tmp_path: Path, terminal: Terminal) -> None:
    """Asked where nothing is, a question says so and leaves nothing behind."""
    asked = terminal("study", "list", TUNER_DATA_DIR=str(tmp_path / "data"))
    assert asked.returncode == 1
    assert f"no database is in {tmp_path / 'data'}" in asked.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("study list --state succeeded", "tiny   succeeded  search       4"),
        ("study best tiny -k 1", "validation"),
        ("job list --state succeeded", "tiny   search  succeeded"),
        ("job show 1", "stopped by n_trials"),
        ("model list", "sealed test"),
    ],
)
def test_answers_of_a_service(arguments: str, said: str, ask: Ask) -> None:
    """With TUNER_URL the answers are those of the service there."""
    code, answer, _ = ask(arguments)
    assert code == 0
    assert said in answer


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ("study show tinny", "", "'tinny'"),
        ("study resume tiny", "", "only a paused job can be resumed"),
        ("job show 99", "", "'99'"),
        ("job cancel 1", "", "job 1 is succeeded"),
        ("job list --state asleep", "", "query.state"),
        ("run -", '{"name": "x", "dpeth": 3, "budget": {"n_trials": 0}}', "body.dpeth"),
        ("run -", '{"name": "x", "search_space": {"depth": {"low": 5, "high": 2}}}', "low=5, high=2"),
        ("run -", '{"name": ', "must be JSON"),
        ("run -", "[]", "must be a JSON object"),
        ("run nowhere.json", "", "nowhere.json"),
        ("run --name tiny", "", "'tiny' is taken"),
    ],
)
def test_refusals_are_one_line(arguments: str, stdin: str, said: str, ask: Ask) -> None:
    """What is refused, by the service or before, is said in a line that names the rule or the value; exit code 1."""
    code, answer, refusal = ask(arguments, stdin)
    assert (code, answer) == (1, "")
    assert said in refusal
    assert len(refusal.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["study shwo tiny", "run --trials many"])
def test_a_wrong_command_line_is_exit_code_2(arguments: str, ask: Ask) -> None:
    """As shells and scripts expect it."""
    assert ask(arguments)[0] == 2


def test_an_address_where_nothing_answers(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the address."""
    monkeypatch.setattr(flow, "PAUSES", (0.01,) * 3)
    asked = terminal("study", "list", TUNER_URL="http://127.0.0.1:9")
    assert asked.returncode == 1
    assert "no service answers at http://127.0.0.1:9" in asked.stderr


def test_an_address_where_something_else_answers(terminal: Terminal) -> None:
    """An answer that is not this service's is said to be that, and is no traceback."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            """Not into the standard error of the command, which runs in this process."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        asked = terminal("study", "list", TUNER_URL=url)
        other.shutdown()
    assert asked.returncode == 1
    assert asked.stderr.startswith(f"tuner: no service of this version answers at {url}")


def test_run_at_a_service_and_again(service: Service, ask: Ask) -> None:
    """The study runs in the service; the same command again shows it and does not run it twice."""
    command = "run - --name remote --trials 3 --seed 7"
    code, told, _ = ask(command, json.dumps(TINY))
    assert code == 0
    assert "Search: 3 trials" in told
    assert ask(command, json.dumps(TINY))[:2] == (0, told)
    assert service.get("/v1/studies/remote")["trials"]["total"] == 3


def test_schedules_in_the_terminal(ask: Ask) -> None:
    """Each command does at the service what REST does; what the service refuses is one line."""
    nightly = {
        "name": "nightly",
        "cron": "30 2 * * *",
        "time_zone": "Europe/Berlin",
        "study": {**TINY, "name": "n-{date}"},
    }
    code, told, _ = ask("schedule create -", json.dumps(nightly))
    assert (code, "30 2 * * * (Europe/Berlin)" in told) == (0, True)
    for command, said in (
        ("pause nightly", "next       paused"),
        ("run nightly", "outcome    started"),
        ("runs nightly", "started"),
        ("resume nightly", ":30:00.000000Z"),
        ("list", "n-{date}"),
        ("show nightly", "last       started, due"),
        ("delete nightly", "nightly is deleted"),
    ):
        code, told, _ = ask(f"schedule {command}")
        assert (code, said in told) == (0, True), told
    code, told, refusal = ask("schedule create -", json.dumps({**nightly, "cron": "0 0 31 2 *"}))
    assert (code, told, len(refusal.splitlines())) == (1, "", 1)
    assert "'0 0 31 2 *'" in refusal


def test_ctrl_c_pauses_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """An interrupted `tuner run` leaves the study paused, says how to go on, and loses nothing. The trials outlast a pause."""
    data_dir, spec, log = tmp_path / "data", tmp_path / "spec.json", tmp_path / "log"
    spec.write_text(json.dumps(small_nets("tiny", 24)))
    with log.open("w") as output:
        running = subprocess.Popen(
            [TUNER, "run", str(spec)], env=environment(data_dir), stdout=output, stderr=output, start_new_session=True
        )
    wait_for(lambda: "tiny: search" in log.read_text(), "the first trials")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: every process gets it
    assert running.wait(timeout=30) == 130
    assert "`tuner study resume tiny`" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "paused" in tuner("study", "show", "tiny", data_dir=data_dir).stdout
    again = tuner("run", str(spec), data_dir=data_dir)
    assert again.returncode == 0, again.stderr
    assert "Search: 24 trials (24 complete" in again.stdout


def test_trials_and_further_jobs_in_the_terminal(ask: Ask, service: Service) -> None:
    """A trial is declared void and counts again; the study is searched on, with an enqueued trial, to its new total; the job's
    log has a line for each of its trials."""
    assert "COMPLETE" in ask("trial list tiny --sort -value")[1]
    code, out, _ = ask("trial void tiny 0 --reason dust")
    assert (code, "void       dust" in out) == (0, True)
    assert "void       dust" in ask("trial show tiny 0")[1]
    assert "void" not in ask("trial void tiny 0 --undo")[1]
    assert ask("trial enqueue tiny width=77")[0] == 1
    for total in range(7, 40, 3):  # a search may have ended before its trial is enqueued
        code, out, _ = ask(f"study extend tiny --trials {total}")
        assert code == 0
        job = out.split()[1]
        code, out, err = ask("trial enqueue tiny width=77 optimizer=sgd learning_rate=0.05 depth=1")
        wait_for(lambda: service.get("/v1/studies/tiny")["state"] == "succeeded", "the further search")
        if code == 0:
            break
    assert (code, "1×77 relu · sgd 0.05" in out) == (0, True), err
    assert service.get("/v1/studies/tiny")["trials"]["total"] == total
    log = ask(f"job log {job}")[1]
    begun = [log.count(f"trial {number} starts") for number in range(total + 1)]
    assert begun == [0] * (total - 3) + [1] * 3 + [0]
    assert "the job is succeeded (reason: n_trials)" in log
    code, _, err = ask(f"study extend tiny --trials {total}")
    assert (code, f"got {total} where it has {total} trials" in err) == (1, True)
    assert ask("study promote none")[0] == 1
    assert ask(f"job retry {job}")[0] == 1
    assert ask(f"job priority {job} -5")[0] == 1
    assert ask("trial enqueue tiny width")[2] == "tuner: a hyperparameter must be NAME=VALUE, but got 'width'\n"


def test_a_data_set_in_the_terminal(ask: Ask, tmp_path: Path) -> None:
    """Uploaded, listed, shown, deleted; what is wrong with a file is told, and nothing of it is kept."""
    labels = np.arange(120, dtype=np.uint8) % 4
    images = np.random.default_rng(0).integers(0, 256, (120, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "squares.npz", x_train=images, y_train=labels)
    np.savez(tmp_path / "torn.npz", x_train=images, y_train=labels[:-1])
    code, said, error = ask("dataset upload squares squares.npz")
    assert (code, error) == (0, "")
    assert "squares" in said
    assert "squares" in ask("dataset list")[1]
    code, said, _ = ask("dataset show squares")
    assert (code, "6" in said) == (0, True)
    code, _, error = ask("dataset upload torn torn.npz")
    assert (code, "119" in error) == (1, True)
    code, _, error = ask("dataset upload none none.npz")
    assert (code, "none.npz" in error) == (1, True)
    assert ask("dataset delete squares") == (0, "squares is deleted\n", "")
    assert ask("dataset show squares")[0] == 1
    assert "torn" not in ask("dataset list")[1]
