"""The real ComfyUI: started headless on a free loopback port, driven by HTTP, stopped for certain.

    with ComfyHost(packs={"ComfyUI-MirrorPPR": ROOT}) as host:
        image = host.upload_image("before.png", png_bytes)
        run = host.run(prompt)                      # an API workflow: {node id: {class_type, inputs}}
        (picture,) = host.images(run)               # bytes of the files that output nodes wrote

`tests/environment/install.py` puts the host in place. The host runs in a base folder of its own (models, input, output,
user), a temporary one if none is named. It cannot outlive us, however we end: it watches a pipe from this process and
exits when the pipe closes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = ROOT / ".host" / "ComfyUI"
PACK = "ComfyUI-MirrorPPR"  # the folder's name under custom_nodes; the page and the templates use it

# Runs ComfyUI's main.py in a process that ends when its standard input does.
WATCHED_MAIN = """\
import os, runpy, sys, threading

def end_with_our_parent():
    os.read(0, 1)  # returns when the pipe closes: nothing is ever written to it
    os._exit(1)

threading.Thread(target=end_with_our_parent, daemon=True).start()
sys.argv = ["main.py", *sys.argv[1:]]
sys.path[0] = os.getcwd()
runpy.run_path("main.py", run_name="__main__")
"""


class HostError(RuntimeError):
    """The host did not start, ended by itself, or took too long; the message carries the end of its log."""


@dataclass(frozen=True)
class Queued:
    """The answer to a prompt. Refused prompts have no id but an error, and errors by node."""

    prompt_id: str | None
    error: dict = field(default_factory=dict)
    node_errors: dict = field(default_factory=dict)

    @property
    def complaint(self) -> str:
        """Every sentence with which the host refused the prompt."""
        errors = [self.error, *(error for node in self.node_errors.values() for error in node["errors"])]
        return "\n".join(f"{error.get('message', '')} {error.get('details', '')}".strip() for error in errors)


@dataclass(frozen=True)
class Run:
    """What became of a prompt: `status` is success, error or interrupted."""

    prompt_id: str
    status: str
    outputs: dict  # node id -> what it showed, e.g. {"images": [{"filename", "subfolder", "type"}]}
    cached: list[str]  # ids of the nodes whose earlier result was used again
    error: dict  # node_id, node_type, exception_type, exception_message, traceback; empty unless `error`

    @property
    def complaint(self) -> str:
        return self.error.get("exception_message", "").strip()


class ComfyHost:
    """One ComfyUI process and a client for it. Use as a context manager, or call start() and stop()."""

    def __init__(self, *, packs: dict[str, Path], base_dir: Path | None = None):
        """packs: folder name under custom_nodes -> folder that is linked there."""
        self.packs = packs
        self._temporary = None if base_dir else tempfile.TemporaryDirectory(prefix="mirrorppr-host-")
        self.base_dir = Path(base_dir or self._temporary.name).resolve()
        self.log_file = self.base_dir / "comfyui.log"
        self.url = ""
        self._process: subprocess.Popen | None = None
        # A proxy named in the environment must not come between us and loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> ComfyHost:
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop()

    def start(self, timeout_s: float = 180.0):
        if not (COMFYUI / "main.py").exists():
            raise HostError("the real ComfyUI is not in .host: run `make setup`")
        self._lay_out_base()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        database = self.base_dir / "user" / "comfyui.db"
        command = [sys.executable, "-c", WATCHED_MAIN, "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--base-directory", str(self.base_dir), "--database-url", f"sqlite:///{database}"]
        command += ["--disable-auto-launch", "--disable-api-nodes"]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",  # more threads than cores make small models many times slower
            "PYTHONUNBUFFERED": "1",
        }
        with open(self.log_file, "wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=COMFYUI,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_for(self._answers, timeout_s, "did not answer")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """End the host and everything it started, and remove the base folder if it was temporary."""
        if self._process:
            for kind in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self._process.pid, kind)
                    self._process.wait(timeout=10)
                    break
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process.stdin.close()
            self._process.wait()
            self._process = None
        if self._temporary:
            self._temporary.cleanup()

    @property
    def pid(self) -> int:
        """Of the host's process, which leads a group of its own."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self, num_lines: int | None = None) -> str:
        """The host's log, or its last lines."""
        lines = self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else []
        return "\n".join(lines[-num_lines:] if num_lines else lines)

    # --- driving it ---------------------------------------------------------------------------------------------

    def upload_image(self, name: str, content: bytes) -> str:
        """Put a picture into the host's input folder. Returns the name that a LoadImage node takes."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode(),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        answer = json.loads(self._request("/upload/image", b"".join(parts), headers))
        return "/".join(part for part in (answer["subfolder"], answer["name"]) if part)

    def queue(self, prompt: dict) -> Queued:
        """Post an API workflow. A prompt that the host refuses (400) comes back with its errors."""
        try:
            answer = self._json("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        except urllib.error.HTTPError as refusal:
            if refusal.code != 400:
                raise
            answer = json.loads(refusal.read())
            return Queued(prompt_id=None, error=answer["error"], node_errors=answer["node_errors"] or {})
        return Queued(prompt_id=answer["prompt_id"])

    def wait(self, prompt_id: str, timeout_s: float = 120.0) -> Run:
        """Wait until the prompt has succeeded, failed or been interrupted."""
        entry = self._wait_for(lambda: self.history(prompt_id), timeout_s, f"did not finish prompt {prompt_id}")
        messages = dict(entry["status"]["messages"])
        status = "success" if entry["status"]["status_str"] == "success" else "error"
        return Run(
            prompt_id=prompt_id,
            status="interrupted" if "execution_interrupted" in messages else status,
            outputs=entry["outputs"],
            cached=messages.get("execution_cached", {}).get("nodes", []),
            error=messages.get("execution_error", {}),
        )

    def run(self, prompt: dict, timeout_s: float = 120.0) -> Run:
        """Queue a prompt that the host should accept, and wait for it. Look at `status` for how it ended."""
        queued = self.queue(prompt)
        if queued.prompt_id is None:
            raise HostError(f"the host refused the prompt:\n{queued.complaint}")
        return self.wait(queued.prompt_id, timeout_s)

    def history(self, prompt_id: str) -> dict | None:
        """The host's record of a finished prompt; None while it is queued or running."""
        return self._json(f"/history/{prompt_id}").get(prompt_id)

    def images(self, run: Run, node_id: str | None = None) -> list[bytes]:
        """The files that the run's output nodes wrote, in order; only those of one node if it is named."""
        nodes = [node_id] if node_id else sorted(run.outputs, key=lambda name: (len(name), name))
        return [self.fetch(image) for node in nodes for image in run.outputs[node].get("images", [])]

    def fetch(self, image: dict) -> bytes:
        """The bytes of one entry of `Run.outputs`: {"filename", "subfolder", "type"}."""
        return self._request("/view?" + urllib.parse.urlencode(image))

    def interrupt(self, prompt_id: str | None = None):
        """Stop the running prompt; with an id, only if it is that one."""
        self._request("/interrupt", json.dumps({"prompt_id": prompt_id} if prompt_id else {}).encode())

    def object_info(self) -> dict:
        """Every node the host knows: id -> its inputs, outputs and texts."""
        return self._json("/object_info")

    def templates(self) -> dict[str, list[str]]:
        """Workflows that packs show in the template browser: pack folder -> names."""
        return self._json("/api/workflow_templates")

    def template(self, pack: str, name: str) -> dict:
        return self._json("/api/workflow_templates/" + urllib.parse.quote(f"{pack}/{name}.json"))

    # --- underneath ---------------------------------------------------------------------------------------------

    def _lay_out_base(self):
        for folder in ("custom_nodes", "models", "input", "output", "temp", "user/default"):
            (self.base_dir / folder).mkdir(parents=True, exist_ok=True)
        for name, folder in self.packs.items():
            link = self.base_dir / "custom_nodes" / name
            link.unlink(missing_ok=True)
            link.symlink_to(folder, target_is_directory=True)
        # Without this the page opens under a dialogue for newcomers.
        settings = self.base_dir / "user" / "default" / "comfy.settings.json"
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))

    def _answers(self) -> bool:
        try:
            self._request("/system_stats")
        except OSError:
            return False
        return True

    def _wait_for(self, condition, timeout_s: float, failure: str):
        deadline = time.monotonic() + timeout_s
        while not (result := condition()):
            if not self.is_running:
                raise HostError(f"ComfyUI ended by itself. The end of its log:\n{self.log(40)}")
            if time.monotonic() > deadline:
                raise HostError(f"ComfyUI {failure} in {timeout_s:g} s. The end of its log:\n{self.log(40)}")
            time.sleep(0.05)
        return result

    def _json(self, path: str, body: dict | None = None):
        return json.loads(self._request(path, None if body is None else json.dumps(body).encode()))

    def _request(self, path: str, body: bytes | None = None, headers: dict | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=body, headers=headers or {})
        if body is not None and not headers:
            request.add_header("Content-Type", "application/json")
        with self._opener.open(request, timeout=60) as response:
            return response.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
