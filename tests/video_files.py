"""Small videos for tests, whose frames tell their number: the whole picture has the gray value 8 times the number."""

from fractions import Fraction

import numpy as np

SMALL = (32, 48)  # height, width


def gray_of(number):
    return 8 * (number % 32)


def write_video(path, num_frames=20, rate=10, *, size=SMALL, codec='libx264', pixel_format='yuv420p', rotation=None,
                times=None, corner=None, file_format=None, options=None):
    """Write a video; ``times`` in milliseconds make its rate variable, ``corner`` colors a quarter of each picture."""
    import av
    time_base = Fraction(1, 1000) if times else Fraction(1, rate)
    with av.open(str(path), 'w', format=file_format, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        (stream.height, stream.width), stream.pix_fmt = size, pixel_format
        stream.codec_context.time_base = time_base
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number in range(num_frames):
            image = np.full((*size, 3), gray_of(number), np.uint8)
            if corner:
                image[:size[0] // 2, :size[1] // 2] = corner
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = times[number] if times else number, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path):
    import av
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('aac', rate=16000)
        frame = av.AudioFrame(format='fltp', layout='mono', samples=1024)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(path, fraction=0.5):
    """Cut a file off."""
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * fraction)])
    return path
