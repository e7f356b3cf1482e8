"""What a scenario says of what it sees."""
import asyncio
import time


def say(text):
    print(text, flush=True)


def holds(what, condition):
    if not condition:
        raise AssertionError(f"does not hold: {what}")
    say(f"holds: {what}")


async def until(what, test, seconds=30):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        await asyncio.sleep(0.05)
    say(f"holds: {what}")
