"""FFmpeg's WHIP muxer (by PyPI `av`): python3 ffmpeg.py URL TOKEN. Publishes a picture and a tone until SIGTERM."""
import signal
import sys
import time
from fractions import Fraction
from importlib.metadata import version

import av
import numpy

url, token = sys.argv[1:3]
SECONDS, RATE = 60, 15
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
options = {"authorization": token}
if len(sys.argv) > 3:  # Builds with GnuTLS make a P-224 key of their own; a file says another.
    options |= {"cert_file": sys.argv[3], "key_file": sys.argv[4]}
out = av.open(url, "w", format="whip", options=options)
video = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "g": "15", "bf": "0"})
video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
audio = out.add_stream("libopus", rate=48000)
audio.layout = "stereo"
start = time.monotonic()
samples = 0
for index in range(SECONDS * RATE):
    if stopped:
        break
    picture = numpy.zeros((360, 640, 3), numpy.uint8)
    picture[:, (index * 8) % 600:(index * 8) % 600 + 40] = 255
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    frame.pts, frame.time_base = index, Fraction(1, RATE)
    out.mux(video.encode(frame))
    while samples < (index + 1) * 48000 // RATE:
        tone = (numpy.sin(2 * numpy.pi * 440 * (samples + numpy.arange(960)) / 48000) * 8000).astype(numpy.int16)
        sound = av.AudioFrame.from_ndarray(numpy.repeat(tone, 2).reshape(1, -1), "s16", "stereo")
        sound.sample_rate, sound.pts, sound.time_base = 48000, samples, Fraction(1, 48000)
        out.mux(audio.encode(sound))
        samples += 960
    time.sleep(max(0, start + (index + 1) / RATE - time.monotonic()))
out.close()
print(f"seen: FFmpeg by PyPI av {version('av')}: whip", flush=True)
