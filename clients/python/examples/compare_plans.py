"""Every plan of the server on one class and seed, side by side in time: python compare_plans.py [SERVER]"""

import asyncio
import sys

from var_dd_client import AsyncClient


async def main(server: str) -> None:
    async with AsyncClient(server) as client:
        model = await client.model()
        for preset in model.presets:
            result = await client.draw("rocket", plan=preset.plan, seed=9)
            name = preset.name.replace(" ", "-")
            result.pictures[0].save(f"rocket-{name}.png")
            fid = f", published FID {preset.fid}" if preset.fid else ""
            print(f"{preset.name}: {result.timings.last_frame_ms:.0f} ms{fid}")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"))
