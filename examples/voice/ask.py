"""Says when somebody speaks in a recording, as it would come from a microphone: 32 ms at a time.

The function keeps nothing between calls. What it has to remember goes out with each reply and in with the next request,
so that any instance, or another node, can go on.
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np

import mayfly

RECORDING = Path(__file__).resolve().parents[2] / "build" / "examples" / "voice" / "recording.wav"
RATE, CHUNK, CONTEXT = (
    16000,
    512,
    64,
)  # of the model: samples a second, of a call, and from the call before


def main() -> None:
    samples = read(Path(sys.argv[1]) if sys.argv[1:] else RECORDING)
    chances = []
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros(CONTEXT, np.float32)
    for start in range(0, len(samples) - CHUNK + 1, CHUNK):
        sound = np.concatenate([context, samples[start : start + CHUNK]])
        reply = mayfly.call("voice", {"input": sound, "state": state, "sr": RATE})
        state, context = reply["stateN"], sound[-CONTEXT:]
        chances.append(float(reply["output"][0, 0]))
    print("chance of speech, a sign for every 32 ms:")
    print("".join(" .:-=+*#%@"[int(chance * 9.99)] for chance in chances).rstrip())
    for begin, end in spoken(chances):
        print(f"speech from {begin:.2f} s to {end:.2f} s")


def spoken(chances: list[float], gap: int = 8) -> list[tuple[float, float]]:
    """Times of speech; pauses of less than `gap` chunks belong to it."""
    loud = [index for index, chance in enumerate(chances) if chance > 0.5]
    times: list[list[int]] = []
    for index in loud:
        if times and index - times[-1][1] <= gap:
            times[-1][1] = index
        else:
            times.append([index, index])
    return [(first * CHUNK / RATE, (last + 1) * CHUNK / RATE) for first, last in times]


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path}: expected 16 bits, one channel, {RATE} Hz")
        content = file.readframes(file.getnframes())
    return np.frombuffer(content, "<i2").astype(np.float32) / 32768


main()
