"""A slice of the run() or the train() of a user's function, in a jail of its own: calls it with what
the last checkpoint kept, and keeps checkpoints through the server. Called by libmayfly-python.so;
the `ctx` is what users are given. docs/jobs.md."""

import json
import logging
import math
import os
import shutil
import socket
import sys
import time

import mayfly_runtime as runtime
import mayfly_values as values

CONTROL = 0
SOURCE = "/source/function"
WORK = "/work"
RESTORED = os.path.join(WORK, "restored")
OUTPUT = os.path.join(WORK, "output")
SCRATCH = os.path.join(WORK, "scratch")
MAX_MESSAGE = 8000
TELL_EVERY = 0.05  # seconds


class Stopped(BaseException):
    """The slice ends: its checkpoint is kept, and another slice goes on from it."""


class Control:
    """The server, over the job's socket: messages there, and what it says back."""

    def __init__(self):
        self._socket = socket.socket(fileno=os.dup(CONTROL))
        with open(os.devnull, "rb") as nothing:  # what programs that run() starts would read
            os.dup2(nothing.fileno(), CONTROL)
        self.stop = False

    def send(self, message):
        text = json.dumps(message, allow_nan=False).encode()
        if len(text) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(text)} bytes is longer than {MAX_MESSAGE}")
        self._socket.send(text)

    def look(self):
        """What has come; nothing is waited for."""
        while True:
            try:
                self._take(self._socket.recv(MAX_MESSAGE, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return

    def wait_for(self, key):
        while True:
            message = self._take(self._socket.recv(MAX_MESSAGE))
            if key in message:
                return message

    def _take(self, text):
        if not text:
            raise ConnectionError("the node is gone")
        message = json.loads(text)
        self.stop = self.stop or bool(message.get("stop"))
        return message


class JobContext(runtime.Context):
    """What a run may know and do."""

    def __init__(self, folder, plan, control, request):
        super().__init__(folder, plan)
        self._control = control
        self._checkpoints = 0
        self._untold = {}
        self._told = 0.0
        self._restored = request["restored"]
        self.invocation_id = request["invocation"]
        self.threads = request["threads"]
        self.scratch = SCRATCH
        self.output = OUTPUT

    def restore(self):
        """The folder with the files of the last checkpoint; None when the run begins."""
        return RESTORED if self._restored else None

    def checkpoint(self, folder):
        """Keeps the files of the folder; durable when it returns. What is restored next time is the
        last one. The slice may end here, and another one go on from it."""
        self.tell_all()
        self._checkpoints += 1
        name = f"checkpoint-{self._checkpoints}"
        copy_files(folder, os.path.join(WORK, name))
        self._control.send({"checkpoint": name})
        reply = self._control.wait_for("kept")
        if not reply["kept"]:
            raise OSError(f"the checkpoint was not kept: {reply.get('error', '')}")
        if self._control.stop:
            raise Stopped

    def should_stop(self):
        """Whether the slice is to end: make a checkpoint soon."""
        self._control.look()
        return self._control.stop

    def progress(self, fraction=None, text=""):
        """How far the run is, from 0 to 1, and in words."""
        value = -1.0 if fraction is None else min(max(float(fraction), 0.0), 1.0)
        self._tell(("progress", ""), {"fraction": value, "text": str(text)[:200]})

    def metric(self, name, value):
        """The last value of a metric, by its name."""
        value = float(value)
        if not math.isfinite(value):
            raise ValueError(f"metric {name!r} is {value}")
        self._tell(("metric", str(name)), {"name": str(name), "value": value})

    def _tell(self, key, what):
        """The last of each is told, a few times a second however often they are set."""
        self._untold[key] = what
        if time.monotonic() - self._told >= TELL_EVERY:
            self.tell_all()

    def tell_all(self):
        for (kind, _), what in self._untold.items():
            self._control.send({kind: what})
        self._untold.clear()
        self._told = time.monotonic()


def copy_files(source, target):
    """Bytes alone: a jail sets neither times nor modes."""
    os.mkdir(target)
    for entry in os.scandir(source):
        into = os.path.join(target, entry.name)
        if entry.is_dir(follow_symlinks=False):
            copy_files(entry.path, into)
        else:
            shutil.copyfile(entry.path, into)


def call(module, handler, request, context):
    run = getattr(module, "run", None)
    if not callable(run):
        raise runtime.Refused(f"{handler} has no function run(inputs, ctx)")
    return run(json.loads(request["inputs"]), context)


def end(how):
    text = json.dumps(how, default=values.plain, ensure_ascii=False, allow_nan=False)
    with open(os.path.join(WORK, "end.json"), "w", encoding="utf-8") as file:
        file.write(text)


def prepare(plan, asked, handler, control):
    """What is called, which is given the imported module."""
    if "train_function" in asked:
        import mayfly_train as training  # which has a job's context, too
        context = training.TrainContext(SOURCE, plan, control, asked["train_function"])
        return context, lambda module: training.call(module, handler, context)
    request = asked["run"]
    context = JobContext(SOURCE, plan, control, request)
    return context, lambda module: call(module, handler, request, context)


def run(plan_text, request_text):
    """Leaves end.json."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    os.makedirs(OUTPUT)
    os.makedirs(SCRATCH)
    sys.path.insert(0, SOURCE)
    plan, asked = json.loads(plan_text), json.loads(request_text)
    handler = plan.get("handler", "function.py")
    control = Control()
    try:
        context, called = prepare(plan, asked, handler, control)
        result = called(runtime.import_handler(SOURCE, handler))
        context.tell_all()
        end({"result": result})
    except Stopped:
        end({"stopped": True})
    except runtime.Refused as error:
        end({"error": str(error)})
    except BaseException as error:  # SystemExit too
        sys.stderr.write(runtime.own_traceback(error, SOURCE))
        end({"error": runtime.summary_of(error)[:4000]})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
