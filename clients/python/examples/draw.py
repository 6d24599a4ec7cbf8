"""Draw one picture and keep it: python draw.py [SERVER]"""

import sys

from var_dd_client import Client

server = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
with Client(server) as client:
    result = client.draw("snowman", plan="2 steps", seed=5)
    path = result.pictures[0].save("snowman.png")
    print(f"{path} after {result.timings.last_frame_ms:.0f} ms, also at {result.job.url}")
