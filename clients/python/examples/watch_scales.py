"""Watch a picture come into focus, one file a scale: python watch_scales.py [SERVER]"""

import sys

from var_dd_client import Client, Finished, Frame, PassBegan

server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
with Client(server) as client:
    sides = client.model().patch_nums
    for event in client.generate("lighthouse", plan="2 steps", seed=1):
        if isinstance(event, PassBegan):
            print(f"pass {event.number + 1} of {event.of}: {event.kind}")
        elif isinstance(event, Frame):
            side = sides[event.scale]
            ending = event.media_type.removeprefix("image/")
            path = event.save(f"pass{event.number + 1}-{side}x{side}.{ending}")
            print(f"  {side:>2}×{side:<2} {event.at_ms:6.1f} ms  {path}")
        elif isinstance(event, Finished):
            print(f"finished after {event.timings.last_frame_ms:.0f} ms")
