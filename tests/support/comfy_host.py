"""Starts a ComfyUI with the pack, and communicates with it like its front end."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from io import BytesIO
from pathlib import Path

from child import spawn
from comfy_installations import host_python
from event_stream import EventStream

TESTS = Path(__file__).parents[1]
PACK = TESTS.parent
PHOTO = TESTS / "data" / "photo.png"
"""128 x 128 pixels of the example picture, which as a whole takes a minute to enlarge on a CPU."""
PACK_FOLDER = "Any-folder_name.v2"  # the pack must not depend on it
BUNDLED = "varestorer-tiny (bundled)"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", **os.environ}  # tiles are too small for a second thread
BOOT_SECONDS = RUN_SECONDS = 300
_COMMAND = "import sys; from varestorer_core.cli.main import main; sys.exit(main())"


def node(class_type: str, **inputs) -> dict:
    """Return one node of a prompt in API form."""
    return {"class_type": class_type, "inputs": inputs}


class HostError(Exception):
    """A prompt that the host rejected or that failed; `messages` are those that a user would see."""

    def __init__(self, messages: list[str]):
        super().__init__("\n".join(messages))
        self.messages = messages


class Host:
    """A running ComfyUI with the pack, and a folder of its own for models and pictures.

    Args:
        base: an empty folder; a pack that is already installed in its custom_nodes is used.
    """

    Error = HostError
    run_seconds = RUN_SECONDS
    """How long a prompt may take."""

    def __init__(self, folder: Path, base: Path):
        self.folder, self.base, self.python = folder, base, host_python(folder)
        self._info: dict[str, dict] = {}
        installed = (base / "custom_nodes").exists()
        for name in ("custom_nodes", "input", "output", "models"):
            (base / name).mkdir(parents=True, exist_ok=True)
        for name in ("diffusion_models", "vae", "text_encoders", "upscale_models", "loras"):
            (base / "models" / name).mkdir()
        if not installed:
            (base / "custom_nodes" / PACK_FOLDER).symlink_to(PACK, target_is_directory=True)
        shutil.copy(PHOTO, base / "input" / PHOTO.name)
        shutil.copy(TESTS / "host" / "helper_nodes.py", base / "custom_nodes" / "helper_nodes.py")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log_path = base / "host.log"
        command = [self.python, "main.py", "--cpu", "--port", str(self.port)]
        command += ["--disable-auto-launch", "--disable-api-nodes", "--base-directory", str(base)]
        command += ["--database-url", f"sqlite:///{base}/comfyui.db"]
        with self.log_path.open("wb") as log:
            self.process = spawn(
                command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=ENVIRONMENT
            )
        try:
            self._wait_until_up()
            self.start_log = self.log
        except BaseException:
            self.stop()
            raise

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                return
            time.sleep(0.5)
        raise RuntimeError(f"{self.folder} did not start:\n{self.log[-3000:]}")

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def fetch(self, path: str, body: dict | None = None) -> bytes:
        """Return the bytes at an address, or the reply to a body posted there as JSON."""
        data = None if body is None else json.dumps(body).encode()
        address, kind = f"http://127.0.0.1:{self.port}{path}", {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(address, data, kind), timeout=RUN_SECONDS
        ) as reply:
            return reply.read()

    def get(self, path: str):
        """Return the JSON at an address."""
        return json.loads(self.fetch(path))

    def queue(self, prompt: dict, client_id: str = "", **extra: object) -> str:
        """Queue a prompt in API form and return its id.

        Args:
            extra: settings that the front end sends with a prompt, such as preview_method.

        Raises:
            HostError: with the messages, if the host rejects the prompt.
        """
        body = {"prompt": prompt, "client_id": client_id or uuid.uuid4().hex, "extra_data": extra}
        try:
            return json.loads(self.fetch("/prompt", body))["prompt_id"]
        except urllib.error.HTTPError as error:
            reply = json.loads(error.read())
            found = [e["details"] for n in reply["node_errors"].values() for e in n["errors"]]
            raise HostError(found or [reply["error"]["message"]]) from error

    def history(self, prompt_id: str) -> dict:
        """Wait for a prompt to end and return its record."""
        deadline = time.monotonic() + self.run_seconds
        while time.monotonic() < deadline:
            # A record can appear before its outputs.
            record = self.get(f"/history/{prompt_id}").get(prompt_id)
            if record and record.get("status", {}).get("status_str"):
                return record
            assert self.process.poll() is None, f"the host died:\n{self.log[-3000:]}"
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not end:\n{self.log[-3000:]}")

    def run(self, prompt: dict) -> dict:
        """Run a prompt in API form and return its record.

        Raises:
            HostError: with the message of the error dialog.
        """
        record = self.history(self.queue(prompt))
        errors = [data for kind, data in record["status"]["messages"] if kind == "execution_error"]
        if errors:
            raise HostError([data["exception_message"].strip() for data in errors])
        return record

    def whole(self, image: list | None = None, **settings) -> dict:
        """Return the prompt of a restoration by the all-in-one node: vae, model, restore, keep."""
        chain = self.chain(image)
        prompt = {name: chain[name] for name in ("picture", "vae", "model")}
        prompt["restore"] = node(
            "VARestorerRestoreImage",
            image=image or ["picture", 0],
            model=["model", 0],
            vae=["vae", 0],
            upscale=1.0,
            seed=0,
            detail=0.0,
            fidelity=0.0,
            overlap=64,
            color_match="none",
        )
        prompt["restore"]["inputs"].update(settings)
        prompt["keep"] = node("TestKeep", image=["restore", 0])
        return prompt

    def chain(self, image: list | None = None, **settings) -> dict:
        """Return the prompt of a whole restoration: nodes vae, model, encode, restore, decode, keep.

        Args:
            image: link to the picture, default `PHOTO`.
            settings: widget values by name, for all nodes with that input.
        """
        prompt = {
            "picture": node("LoadImage", image=PHOTO.name),
            "vae": node("VARestorerLoadVAE", vae_name=BUNDLED),
            "model": node("VARestorerLoadModel", model_name=BUNDLED),
            "encode": node(
                "VARestorerEncodePyramid",
                image=image or ["picture", 0],
                vae=["vae", 0],
                upscale=1.0,
                overlap=64,
            ),
            "restore": node(
                "VARestorerRestore",
                model=["model", 0],
                pyramid=["encode", 0],
                seed=0,
                detail=0.0,
                fidelity=0.0,
            ),
            "decode": node(
                "VARestorerDecodeTiled",
                samples=["restore", 0],
                vae=["vae", 0],
                color_match="none",
            ),
            "keep": node("TestKeep", image=["decode", 0]),
        }
        for name, value in settings.items():
            owners = [n for n in prompt.values() if name in self.input_names(n["class_type"])]
            assert owners, f"no node of the chain has an input {name!r}"
            for owner in owners:
                owner["inputs"][name] = value
        return prompt

    @staticmethod
    def insert_adapters(prompt: dict, adapters) -> None:
        """Put adapters (name, strength) between the model and the restoration of a prompt."""
        wanted = prompt["restore"]["inputs"]
        for number, (name, strength) in enumerate(adapters):
            inputs = {"model": wanted["model"], "adapter_name": name, "strength": strength}
            prompt[f"adapter{number}"] = node("VARestorerLoadAdapter", **inputs)
            wanted["model"] = [f"adapter{number}", 0]

    def input_names(self, class_type: str) -> list[str]:
        """Return the inputs of a node in the order of its widgets and sockets."""
        if class_type not in self._info:
            self._info[class_type] = self.get(f"/object_info/{class_type}")[class_type]
        return [n for names in self._info[class_type]["input_order"].values() for n in names]

    def events(self, client_id: str) -> EventStream:
        return EventStream(self.port, client_id, RUN_SECONDS)

    def python_with_core(self, code: str, *arguments: object) -> None:
        """Run Python code, which may import varestorer_core, with the host's interpreter."""
        side = self.base / "side"
        if not side.exists():
            side.mkdir()
            # Only the core: with the repository on the path, our nodes/ would shadow the host's.
            (side / "varestorer_core").symlink_to(PACK / "varestorer_core")
        done = subprocess.run(
            [self.python, "-c", code, *map(str, arguments)],
            env={**ENVIRONMENT, "PYTHONPATH": str(side)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def command(self, *arguments: object) -> None:
        """Run our command with the host's interpreter: another PyTorch rounds differently."""
        self.python_with_core(_COMMAND, *arguments)

    def arrays(self, record: dict) -> dict:
        """Return the inputs of the helper's TestKeep nodes, by node id: (B, H, W, C) float32."""
        return {name: arrays[0] for name, arrays in self.lists(record).items()}

    def lists(self, record: dict) -> dict:
        """Return the same for nodes that ran once for every entry of a list."""
        import numpy as np

        outputs = record["outputs"].items()
        return {node: [*map(np.load, out["array"])] for node, out in outputs if "array" in out}

    def picture(self, record: dict, node_id: str):
        """Return the one picture that a SaveImage node saved, as a Pillow image."""
        (picture,) = self.pictures(record, node_id)
        return picture

    def pictures(self, record: dict, node_id: str) -> list:
        """Return all pictures that a SaveImage node saved."""
        from PIL import Image

        places = (urllib.parse.urlencode(where) for where in record["outputs"][node_id]["images"])
        return [Image.open(BytesIO(self.fetch(f"/view?{place}"))) for place in places]

    def model_file(self, folder: str, name: str) -> Path:
        return self.base / "models" / folder / name
