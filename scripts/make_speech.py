"""Make the speech that the simulator and its caller send: espeak-ng says it, libopus (through PyAV) encodes it.

Run it as `python scripts/make_speech.py` where espeak-ng is installed. It writes the files and their
manifest into `src/rtobserver/simulator/sounds`. Packets are 20 ms long, as WebRTC sends them.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av

SOUNDS = Path(__file__).parents[1] / "src" / "rtobserver" / "simulator" / "sounds"
LINES = {
    "assistant": (
        "en-us+f3",
        """Hello. I am the simulated assistant. I always say these words, whatever the transcript says.
        They are here so that you can hear that sound comes back, and so that you can interrupt me.
        If you let me go on, I will begin again.""",
    ),
    # Without a comma or a full stop, at which the synthesizer pauses and upstream would think that it is its turn.
    "question": ("en-gb+m3", "Hello can you hear me I would like to know what the weather is like"),
    "interruption": ("en-gb+m3", "Wait please stop that is enough thank you"),
}


def synthesize(voice: str, text: str) -> bytes:
    """Say a text and give it as a WAV file."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise SystemExit("espeak-ng is not installed")
    return subprocess.run(
        [program, "-v", voice, "-s", "165", "--stdout", " ".join(text.split())], check=True, capture_output=True
    ).stdout


def encode(wav: bytes, path: Path) -> int:
    """Encode a WAV file as Ogg Opus, mono, and give the number of packets."""
    # without the flag the stream gets a number by chance, and no two runs make the same file
    settings = {"fflags": "+bitexact"}
    with (
        av.open(io.BytesIO(wav), "r") as source,
        av.open(str(path), "w", format="ogg", container_options=settings) as target,
    ):
        stream = target.add_stream("libopus", rate=48000)
        stream.layout = "mono"
        stream.bit_rate = 20_000
        stream.codec_context.options = {"application": "voip", "frame_duration": "20"}
        resampler = av.AudioResampler(format="s16", layout="mono", rate=48000, frame_size=960)
        frames = [piece for frame in source.decode(audio=0) for piece in resampler.resample(frame)]
        count = 0
        for number, frame in enumerate(frames[:-1]):
            frame.pts, frame.time_base = number * 960, Fraction(1, 48000)
            for packet in stream.encode(frame):
                target.mux(packet)
                count += 1
        for packet in stream.encode(None):
            target.mux(packet)
            count += 1
    return count


def main() -> None:
    """Write every file, and what it is."""
    version = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S607
    described: dict[str, object] = {}
    manifest = {
        "made_by": "scripts/make_speech.py",
        "licence": "Apache-2.0, as the rest of rtobserver: our own words, said by a synthesizer",
        "tools": {
            "espeak-ng": version.split("Data at")[0].strip().removeprefix("eSpeak NG text-to-speech: "),
            "av": av.__version__,
        },
        "files": described,
    }
    for name, (voice, text) in LINES.items():
        path = SOUNDS / f"{name}.opus"
        count = encode(synthesize(voice, text), path)
        described[path.name] = {
            "voice": voice,
            "text": " ".join(text.split()),
            "packets": count,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    (SOUNDS / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
