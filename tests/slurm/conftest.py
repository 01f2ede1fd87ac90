"""A Slurm of one node on this machine, of Debian's packages, for this session."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
SYSTEM_FOLDERS = os.pathsep.join(("/usr/sbin", "/sbin"))
PARTITION = "gpu"  # as in docs/sweeps.md
CPUS = 4  # more than some machines have: two jobs of two tasks run at the same time
PRETENDED_GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")  # jobs that get one run on the CPU
START_SECONDS = 30

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=100000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName={partition} Nodes={host} Default=YES OverSubscribe=NO State=UP
"""


class Slurm:
    """Commands in the environment of the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join((os.environ["PATH"], SYSTEM_FOLDERS))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self.environment = kept | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": path,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; where it has to succeed its output is shown if it does not."""
        options: Any = {"cwd": folder, "env": self.environment, "capture_output": True, "text": True}
        done = subprocess.run(command, timeout=240, check=False, **options)
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *command: str, folder: Path, log: str) -> subprocess.Popen[bytes]:
        """Start a command, its output to a file in `folder`."""
        with (folder / log).open("wb") as file:
            return subprocess.Popen(command, cwd=folder, env=self.environment, stdout=file, stderr=file)

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until a condition holds."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"{what}; logs of the daemons in {self.folder}"
            time.sleep(0.1)

    def start_daemons(self) -> None:
        """Start the daemons, and wait until the node takes jobs."""
        key, socket_file = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (self.folder / "munge").mkdir(mode=0o700)
        options = [f"--{name}-file={self.folder}/munge/{name}" for name in ("pid", "log", "seed")]
        # --force: the socket lies in a folder that is this user's alone, as all that use it are
        self._serve(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}", *options
        )
        self.wait_for(socket_file.exists, START_SECONDS, "munged has no socket")
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        controller_port, node_port = _free_ports()
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            controller_port=controller_port,
            node_port=node_port,
            folder=self.folder,
            cpus=CPUS,
            gpus=len(PRETENDED_GPUS),
            partition=PARTITION,
            user=pwd.getpwuid(os.geteuid()).pw_name,  # no rights of root are needed to run jobs of one's own
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("".join(f"Name=gpu File={file}\n" for file in PRETENDED_GPUS))
        self._serve("slurmctld", "-D")
        self._serve("slurmd", "-D")
        self.wait_for(self._is_ready, START_SECONDS, "the node is not ready")

    def _is_ready(self) -> bool:
        nodes = self.run("sinfo", "--noheader", "--format=%T", folder=self.folder, check=False)
        return nodes.stdout.strip() == "idle"

    def _serve(self, *command: str) -> None:
        self._daemons.append(self.start(*command, folder=self.folder, log=f"{command[0]}.log"))

    def end(self) -> None:
        """End what `start_daemons` started, last first."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(timeout=30)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Iterator[Slurm]:
    """A running one; skips where Debian's packages slurmctld, slurmd, slurm-client and munge are not there."""
    path = os.pathsep.join((os.environ["PATH"], SYSTEM_FOLDERS))
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        pytest.skip(f"no Slurm on this machine: {', '.join(absent)}")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start_daemons()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture
def work(tmp_path: Path, tiny_csv: tuple[Path, Path]) -> Path:
    """A folder with `labels.csv` and `photos`, as in the commands of docs/sweeps.md."""
    annotations, images = tiny_csv
    (tmp_path / "labels.csv").symlink_to(annotations)
    (tmp_path / "photos").symlink_to(images)
    return tmp_path
