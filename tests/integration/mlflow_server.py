"""A real MLflow server on a real PostgreSQL, and what can go wrong on the way to it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

POSTGRES = Path("/usr/lib/postgresql/15/bin")
_ANSWERS = {"unauthorised": "401 Unauthorized", "failing": "507 Insufficient Storage"}
Rows = list[tuple[object, ...]]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Server:
    """Where they listen.

    Attributes:
        url: of MLflow.
        database: of PostgreSQL, as MLflow is told.
        artifacts: the folder of its artifacts.
    """

    url: str
    database: str
    artifacts: Path

    def query(self, statement: str, *values: object) -> Rows:
        """Ask the database itself."""
        with closing(psycopg2.connect(self.database.replace("+psycopg2", ""))) as connection:
            cursor = connection.cursor()
            cursor.execute(statement, values)
            return list(cursor.fetchall())


@contextmanager
def mlflow_on_postgres(folder: Path) -> Iterator[Server]:
    """Start both in `folder`, and stop them in the end."""
    with postgres() as database, MlflowServer(folder, database.address) as server:
        yield Server(server.url, database.address, server.artifacts)


@dataclass
class Postgres:
    """A database server that runs.

    Attributes:
        address: as MLflow is told.
        control: the words of `pg_ctl`.
    """

    address: str
    control: list[str]

    def restart(self) -> None:
        """Break off what it does, and start it again."""
        folder = Path(self.control[self.control.index("-D") + 1]).parent
        options = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
        subprocess.run([*self.control, "-m", "immediate", "-l", str(folder / "log"), "restart"], **options)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start PostgreSQL with an empty database `mlflow` and a password, and stop it in the end."""
    # Not below pytest's folder: each new pytest on the machine closes that to other accounts.
    folder = Path(tempfile.mkdtemp(prefix="bigtrain-postgres-"))
    run = []
    if os.getuid() == 0:  # which PostgreSQL refuses
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        run = ["runuser", "-u", "postgres", "--"]
    port, secret = free_port(), folder / "secret"
    secret.write_text("right")
    secret.chmod(0o644)
    data = folder / "data"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    initdb = [
        POSTGRES / "initdb",
        "-D",
        data,
        "-U",
        "mlflow",
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
        "--no-sync",
    ]
    subprocess.run([*run, *map(str, initdb)], **quiet)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*run, str(POSTGRES / "pg_ctl"), "-D", str(data), "-w"]
    subprocess.run([*control, "-o", options, "-l", str(folder / "log"), "start"], **quiet)
    try:
        address = f"mlflow:right@127.0.0.1:{port}"
        with closing(psycopg2.connect(f"postgresql://{address}/postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute("create database mlflow")
        yield Postgres(f"postgresql+psycopg2://{address}/mlflow", control)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder)


class MlflowServer:
    """`mlflow server`, which can be killed, and started again at the same address; a context.

    Args:
        folder: for its artifacts and its log.
        store: its database.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self._folder, self._port = folder, free_port()
        self.artifacts = folder / "mlartifacts"
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--backend-store-uri", store]
        command += ["--artifacts-destination", str(self.artifacts)]
        self._command = [*command, "--workers", "1", "--port", str(self._port)]
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "MlflowServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        self._process.wait()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # Its queues are for other work than ours, and take half a minute of a processor to start.
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.3)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers, a group of their own."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self.send(signal.SIGKILL)
        self._process.wait()


@dataclass
class FaultyLine:
    """Passes connections on to a server, as well as `fault` says.

    Attributes:
        port: of the server.
        fault: `none`; `slow`, each answer comes seconds late; `hung`, none ever comes; `dead`, connections are cut;
            `unauthorised`, the password is wrong; `failing`, the server's disk is full; `storeless`, the store of
            artifacts does not answer.
        connections: how many there were so far.
        refused_artifacts: how many requests for artifacts were answered in the store's place.
    """

    port: int
    fault: str = "none"
    delay: float = 2.0
    connections: int = 0
    refused_artifacts: int = 0
    _listener: socket.socket = field(init=False)

    def __enter__(self) -> "FaultyLine":
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        with client:
            if self.fault in _ANSWERS:
                client.recv(1 << 20)
                client.sendall(f"HTTP/1.1 {_ANSWERS[self.fault]}\r\nContent-Length: 0\r\n\r\n".encode())
            elif self.fault == "hung":
                time.sleep(3600)
            elif self.fault != "dead":
                with socket.create_connection(("127.0.0.1", self.port)) as server:
                    back = threading.Thread(target=self._copy, args=(server, client, self.delay), daemon=True)
                    back.start()
                    self._copy(client, server, 0.0)
                    back.join()

    def _copy(self, source: socket.socket, sink: socket.socket, delay: float) -> None:
        """Pass bytes on until one side closes, or the line breaks."""
        try:
            while data := source.recv(1 << 16):
                while self.fault == "hung":
                    time.sleep(0.1)
                if self.fault == "storeless" and b"/mlflow-artifacts/" in data:
                    self.refused_artifacts += 1
                    source.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                    break
                if self.fault in ("dead", *_ANSWERS):  # the next connection gets to hear it
                    break
                if self.fault == "slow":
                    time.sleep(delay)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def installed() -> bool:
    """Tell whether Debian's PostgreSQL is there."""
    return (POSTGRES / "initdb").is_file() and (os.getuid() != 0 or shutil.which("runuser") is not None)
