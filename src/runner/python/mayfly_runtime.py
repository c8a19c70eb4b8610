"""What stands between a jail's runner and a user's function: imports it, calls it, and turns what it
takes and gives into bytes and back. Called by libmayfly-python.so; nothing here is an API for users
but the `ctx` that their functions are given."""

import contextlib
import gc
import importlib
import importlib.util
import inspect
import json
import logging
import os
import sys
import time
import traceback
import types

from mayfly_calls import CallError, Calls, NothingAnswers
from mayfly_values import (NUMPY, document_of, import_numpy, is_json, join_elements, json_document,
                           to_array)

# Datatypes of the Open Inference Protocol, in the order of their numbers in shared memory (from 1).
DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
             "FP16", "FP32", "FP64", "BYTES", "BF16")
MAX_RANK = 16
SECRETS = "/secrets"

ENTRIES = ("predict", "run", "train")
END = object()  # of a stream
TRACEBACK_MARK = "\x1e"  # sandbox/channel.h
MAX_TRACEBACK = 16 * 1024


class Refused(Exception):
    """The artifact cannot be served; the words are for its deployer."""


class InvalidInput(Exception):
    """A request that the function is not to blame for."""


class Context:
    """What a function may know: of itself, and of the invocation that it serves."""

    CallError = CallError  # what call() raises when the function that it called fails

    def __init__(self, folder, plan):
        self._folder = folder
        self._secrets = frozenset(plan.get("secrets", ()))
        self._calls = Calls(plan.get("calls", ()))
        self._deadline = None
        self.parameters = types.MappingProxyType(plan.get("parameters", {}))
        self.logger = logging.getLogger("function")
        self.invocation_id = None
        self.content_type = None

    def path(self, name):
        """The path of a file that was deployed with the function."""
        path = os.path.normpath(os.path.join(self._folder, name))
        if os.path.isabs(name) or not path.startswith(self._folder + os.sep):
            raise ValueError(f"{name!r} is not inside the function's folder")
        if not os.path.exists(path):
            raise FileNotFoundError(f"{name!r} was not deployed with the function")
        return path

    def secret_path(self, name):
        """The path of a file that holds a secret, byte by byte."""
        if name not in self._secrets:
            raise ValueError(f"no secret {name!r} is named in mayfly.toml: secrets = [\"{name}\"]")
        return os.path.join(SECRETS, name)

    def secret(self, name):
        """A secret's value, as text."""
        with open(self.secret_path(name), encoding="utf-8", newline="") as file:
            return file.read()

    def call(self, name, inputs):
        """Asks another function of the project, one that mayfly.toml names in calls = [...], and
        waits for its answer. A dict of NumPy arrays goes to it as tensors, anything else as JSON or
        bytes. Gives a dict of arrays where the function has typed outputs, else what its JSON
        says, or bytes; raises ctx.CallError where it fails."""
        return self._calls.call(name, inputs)

    @property
    def deadline(self):
        """When the invocation must be done, as time.monotonic() counts; None while there is none."""
        return self._deadline

    def remaining(self):
        """Seconds until the deadline; None while there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


# ---- Types ---------------------------------------------------------------------------------------


def parse_type(name, text):
    """"FP32[-1,30]" → ("FP32", (-1, 30))"""
    datatype, bracket, rest = str(text).partition("[")
    try:
        if not bracket or not rest.endswith("]"):
            raise ValueError
        shape = tuple(int(size) for size in rest[:-1].split(",") if size.strip() or "," in rest)
    except ValueError:
        raise Refused(f"{name}: {text!r} is no type; write a datatype and a shape, like "
                      f"\"FP32[-1,30]\"") from None
    if datatype not in NUMPY and datatype != "BYTES":
        known = ", ".join([*NUMPY, "BYTES"])
        raise Refused(f"{name}: {datatype!r} is no datatype here; there are {known}")
    if len(shape) > MAX_RANK or any(size < -1 for size in shape):
        raise Refused(f"{name}: {text!r} has an impossible shape")
    return datatype, shape


def annotated(table, what):
    if not isinstance(table, dict) or not table:
        raise Refused(f"predict: the annotation of its {what} must be a dict of types, like "
                      f"{{\"x\": \"FP32[-1,30]\"}}")
    return [(name, *parse_type(f"predict: {what} {name!r}", text)) for name, text in table.items()]


def declared_types(plan, predict):
    """Inputs and outputs as lists of (name, datatype, shape); empty lists: documents."""
    if plan.get("inputs"):
        return tuple([(name, *parse_type(name, text)) for name, text in plan[key].items()]
                     for key in ("inputs", "outputs"))
    annotations = annotations_of(predict)
    first = next(iter(inspect.signature(predict).parameters), None)
    notes = [annotations[key] for key in (first, "return") if annotations.get(key) is not None]
    if not any(isinstance(note, dict) for note in notes):
        return [], []
    if len(notes) != 2:
        raise Refused("predict: annotate both what it takes and what it returns, or neither")
    return annotated(notes[0], "inputs"), annotated(notes[1], "outputs")


def annotations_of(predict):
    try:
        return inspect.get_annotations(predict, eval_str=True)
    except Exception:  # names that only a type checker knows
        return getattr(predict, "__annotations__", {})


# ---- The function --------------------------------------------------------------------------------


def import_handler(folder, handler):
    path = os.path.join(folder, handler)
    if not os.path.isfile(path):
        raise Refused(f"there is no {handler} in the folder; write one, or name another file with "
                      f"handler = \"...\" in mayfly.toml")
    name = os.path.splitext(os.path.basename(handler))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def runs_only(inputs, state, ctx):
    raise InvalidInput("this function has no predict(); what it has is run as a job")


def check_callable(module, handler):
    predict = getattr(module, "predict", None)
    if predict is None and any(callable(getattr(module, name, None)) for name in ("run", "train")):
        return runs_only
    if not callable(predict):
        raise Refused(f"{handler} has no function predict(inputs, state, ctx)")
    if inspect.iscoroutinefunction(predict) or inspect.isasyncgenfunction(predict):
        raise Refused(f"{handler}: predict is async; an instance serves one request at a time, so "
                      f"write it without async")
    try:
        inspect.signature(predict).bind(None, None, None)
    except TypeError:
        raise Refused(f"{handler}: predict must take three arguments: "
                      f"predict(inputs, state, ctx)") from None
    return predict


class Function:
    def __init__(self, folder, plan):
        self._muted = True  # until it serves: what it says of made-up requests is nobody's log
        self._folder = folder
        handler = plan.get("handler", "function.py")
        self.context = Context(folder, plan)
        self._calls = self.context._calls
        module = import_handler(folder, handler)
        self._predict = check_callable(module, handler)
        self.streams = inspect.isgeneratorfunction(self._predict)
        self._chunks = None  # of the stream under way
        self._wanted = []
        self.inputs, self.outputs = declared_types(plan, self._predict)
        if self.inputs:
            try:
                import_numpy()
            except ImportError as error:
                raise Refused(f"typed inputs and outputs are NumPy arrays, and numpy cannot be "
                              f"imported ({error}); add it to requirements.txt or pyproject.toml") \
                    from None
        self._entries = [name for name in ENTRIES if callable(getattr(module, name, None))]
        load = getattr(module, "load", None)
        self._state = load(self.context) if callable(load) else None

    @property
    def takes_documents(self):
        return not self.inputs

    def entries(self):
        """What of it may be called, a name a line."""
        return "\n".join(self._entries)

    def imports(self):
        """What it has had imported that others of its environment may have too, a name a line, in the
        order in which the imports began."""
        return packages_imported()

    def freeze(self):
        """Before the first fork: what is there now is shared, and no collection writes to it. A caller
        may wait for it: a look at everything, a twentieth of a second with some packages, would find
        what imports leave, which is next to nothing."""
        gc.collect(1)
        gc.freeze()

    def begin_serving(self):
        """In an instance, after its fork."""
        self._muted = False
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(None)
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "manual_seed"):
            torch.manual_seed(int.from_bytes(os.urandom(7), "little"))

    def call(self, inputs, wanted, invocation, deadline):
        """inputs: (index, is document, datatype, shape, memory) each. Returns a list of
        (datatype, shape, bytes-like), one per wanted output; or (reason, message, traceback). Of a
        generator: its first chunk, None where it has none."""
        context = self.context
        context.invocation_id = invocation
        context._deadline = deadline / 1e9 if deadline else None
        return self._guarded(self._call, inputs, wanted)

    def next_chunk(self):
        """As call() returns them; None: that was all."""
        return self._guarded(self._next_chunk)

    def close_stream(self):
        """No more chunks are wanted: the generator's `finally` blocks run."""
        chunks, self._chunks = self._chunks, None
        if chunks is not None:
            self._guarded(self._aloud, chunks.close)

    def set_bridge(self, bridge):
        self._calls.set_bridge(bridge)

    def _guarded(self, work, *arguments):
        try:
            if self._calls.names:
                return self._calling(work, *arguments)
            return work(*arguments)
        except NothingAnswers as stop:
            self.close_stream()
            return "unsupported", str(stop), ""
        except InvalidInput as error:
            self.close_stream()
            return "invalid_input", str(error), ""
        except BaseException as error:  # SystemExit too: it is the function's, not the instance's
            sys.stderr.write(own_traceback(error, self._folder))
            complaint, lines = summary_of(error), own_lines(error, self._folder)
            self.close_stream()
            return "function_error", complaint, lines
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    def _calling(self, work, *arguments):
        self._calls.open()
        try:
            return work(*arguments)
        finally:
            self._calls.close()

    def _call(self, inputs, wanted):
        arguments = self._arrays(inputs) if self.inputs else self._document(inputs)
        if not self.streams:
            return self._results(self._run(arguments), wanted)
        self._wanted = wanted
        self._chunks = self._run(arguments)
        return self._next_chunk()

    def _next_chunk(self):
        chunk = self._aloud(next, self._chunks, END)
        if chunk is END:
            self._chunks = None
            return None
        return self._results(chunk, self._wanted)

    def _run(self, arguments):
        return self._aloud(self._predict, arguments, self._state, self.context)

    def _aloud(self, work, *arguments):
        if not self._muted:
            return work(*arguments)
        with quiet():
            return work(*arguments)

    @property
    def _gave(self):
        return "yielded" if self.streams else "returned"

    def _results(self, results, wanted):
        return self._from_arrays(results, wanted) if self.inputs else self._from_document(results, wanted)

    # -- Arrays

    def _arrays(self, inputs):
        return {self.inputs[index][0]: to_array(datatype, shape, memory)
                for index, _, datatype, shape, memory in inputs}

    def _from_arrays(self, results, wanted):
        if not isinstance(results, dict):
            raise TypeError(f"predict {self._gave} {type(results).__name__}, not a dict of outputs")
        names = [name for name, _, _ in self.outputs]
        for name in results:
            if name not in names:
                raise TypeError(f"predict {self._gave} {name!r}, which is none of its outputs: "
                                f"{', '.join(names)}")
        return [self._output(results, *self.outputs[index]) for index in wanted]

    def _output(self, results, name, datatype, shape):
        if name not in results:
            raise TypeError(f"predict {self._gave} no {name!r}")
        return from_value(name, results[name], datatype, shape)

    # -- Documents

    def _document(self, inputs):
        by_index = {entry[0]: entry for entry in inputs}
        body = document_bytes(by_index.get(0))
        content_type = bytes(document_bytes(by_index.get(1))).decode("latin-1")
        self.context.content_type = content_type
        return document_arguments(body, content_type)

    def _from_document(self, result, wanted):
        reply, reply_type = json_document(result) if self.streams else document_of(result)
        parts = (reply, reply_type.encode("latin-1", "replace"))
        return [("BYTES", (1,), b"".join((len(parts[i]).to_bytes(4, "little"), parts[i])))
                for i in wanted]


@contextlib.contextmanager
def quiet():
    logging.disable()
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, \
                contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(logging.NOTSET)


# ---- Environments --------------------------------------------------------------------------------

SHARED = ("/environment/", "/python/")
MOST_IMPORTS = 32 * 1024


def packages_imported():
    """In the order of sys.modules, which is that in which imports began: who imports these names one
    after another does what was done here. Cut off at MOST_IMPORTS."""
    names = []
    for name, module in list(sys.modules.items()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if isinstance(origin, str) and origin.startswith(SHARED) and name.isprintable():
            names.append(name)
    text = "\n".join(names)
    return text if len(text) <= MOST_IMPORTS else text[:text.rindex("\n", 0, MOST_IMPORTS)]


def prepare(names):
    """Imports them, in a process that has no function yet. What fails will fail, or not, where a
    function wants it."""
    speak_in_lines()
    for name in names.splitlines():
        if name and name not in sys.modules:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()
    sys.stdout.flush()
    sys.stderr.flush()


def shadowed(folder):
    """Names of modules that the function brings itself, and that were imported from elsewhere before
    it came; empty text: none."""
    imported = {name.partition(".")[0] for name in sys.modules}
    own = set()
    for entry in os.scandir(folder):
        name, dot, suffix = entry.name.partition(".")
        if entry.is_dir() or suffix in ("py", "pyc") or suffix.endswith("so"):
            own.add(name)
    return ", ".join(sorted(own & imported))


def speak_in_lines():
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")


# ---- Values --------------------------------------------------------------------------------------


def from_value(name, value, datatype, shape):
    numpy = sys.modules["numpy"]
    if datatype == "BYTES":
        array = numpy.asarray(value, dtype=object)
    else:
        array = numpy.asarray(value)
        wanted = numpy.dtype(NUMPY[datatype])
        if array.dtype != wanted:
            if not numpy.can_cast(array.dtype, wanted, "same_kind"):
                raise TypeError(f"output {name!r} is {array.dtype}, which does not become {datatype} "
                                f"without loss; convert it")
            array = converted(name, array, wanted, datatype)
    if array.ndim == 0 and len(shape) == 1:
        array = array.reshape(1)
    fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape))
    if not fits:
        raise ValueError(f"output {name!r} has shape {list(array.shape)}, which does not fit "
                         f"{datatype}{list(shape)}")
    if datatype == "BYTES":
        return datatype, array.shape, join_elements(name, array.ravel())
    return datatype, array.shape, memoryview(numpy.ascontiguousarray(array)).cast("B") \
        if array.size else b""


def converted(name, array, wanted, datatype):
    numpy = sys.modules["numpy"]
    with numpy.errstate(all="ignore"):
        result = array.astype(wanted)
    if wanted.kind in "iu":
        lost = not numpy.array_equal(result, array)
    else:
        lost = bool(numpy.any(numpy.isfinite(array) & ~numpy.isfinite(result)))
    if lost:
        raise TypeError(f"output {name!r} holds values that {datatype} does not have")
    return result


def document_bytes(entry):
    """The body, or the one element of a BYTES tensor, without a copy."""
    if entry is None:
        return b""
    _, is_document, _, _, memory = entry
    if is_document:
        return memory
    return memory[4:4 + int.from_bytes(memory[:4], "little")]


def document_arguments(body, content_type):
    kind = content_type.split(";")[0].strip().lower()
    if not is_json(content_type):
        return {"body": bytes(body)}
    if len(body) == 0:
        return {}
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        hint = "" if kind == "application/json" else \
            "; send Content-Type: application/octet-stream for what is no JSON"
        raise InvalidInput(f"the body is no JSON: {error}{hint}") from None


# ---- Complaints ----------------------------------------------------------------------------------


def summary_of(error):
    words = "".join(traceback.format_exception_only(type(error), error)).strip()
    if isinstance(error, SyntaxError):  # which quotes the line, over several
        words = f"{type(error).__name__}: {error}"
    return words.replace(TRACEBACK_MARK, "?")


def own_traceback(error, folder):
    """The lines of the traceback from the user's first one on."""
    frames = error.__traceback__
    while frames is not None and not frames.tb_frame.f_code.co_filename.startswith(folder):
        frames = frames.tb_next
    if frames is None and not isinstance(error, SyntaxError):  # which says itself where it is
        frames = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, frames))


def own_lines(error, folder):
    """The traceback with the user's own lines only, as a caller who may read the logs is shown it:
    files relative to the folder, and the end where it is long."""
    try:
        shown = traceback.TracebackException.from_exception(error)
        keep_own_frames(shown, folder, set())
        lines = "".join(shown.format()).rstrip("\n")
    except Exception:  # an exception whose own words fail, a file that is gone: the logs have it
        return ""
    lines = lines.encode("utf-8", "backslashreplace")
    if len(lines) > MAX_TRACEBACK:
        lines = lines[-MAX_TRACEBACK:].partition(b"\n")[2]
    return lines.decode("utf-8", "replace")


def keep_own_frames(shown, folder, seen):
    if shown is None or id(shown) in seen:
        return
    seen.add(id(shown))
    shown.stack = traceback.StackSummary.from_list([
        traceback.FrameSummary(os.path.relpath(frame.filename, folder), frame.lineno, frame.name,
                               lookup_line=False, line=frame.line)
        for frame in shown.stack if frame.filename.startswith(folder + os.sep)])
    for other in [shown.__cause__, shown.__context__, *(shown.exceptions or ())]:
        keep_own_frames(other, folder, seen)


def load(folder, plan_text):
    """A Function; or the words why there is none."""
    speak_in_lines()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    sys.path.insert(0, folder)
    plan = json.loads(plan_text)
    try:
        return Function(folder, plan)
    except Refused as error:
        return str(error)
    except BaseException as error:
        handler = plan.get("handler", "function.py")
        sys.stderr.write(own_traceback(error, folder))
        where = last_line_of(error, folder)
        return f"{handler} cannot be loaded: {summary_of(error)}{where}"
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def last_line_of(error, folder):
    lines = [frame for frame in traceback.extract_tb(error.__traceback__)
             if frame.filename.startswith(folder)]
    if not lines:
        return ""
    last = lines[-1]
    return f" ({os.path.relpath(last.filename, folder)}, line {last.lineno})"
