"""An aioice agent that talks to a test by lines on its standard streams, and echoes data.

    aioice_peer.py controlling|controlled [udp|tcp ADDRESS PORT USER PASSWORD]
"""

import asyncio
import sys

import aioice


async def main():
    turn = {}
    if len(sys.argv) > 6:
        transport, address, port, user, password = sys.argv[2:7]
        turn = dict(
            turn_server=(address, int(port)),
            turn_username=user,
            turn_password=password,
            turn_transport=transport,
        )
    agent = aioice.Connection(
        ice_controlling=sys.argv[1] == "controlling", use_ipv6=False, **turn
    )
    await agent.gather_candidates()
    print("credentials", agent.local_username, agent.local_password)
    for candidate in agent.local_candidates:
        print("candidate", "candidate:" + candidate.to_sdp())
    print("complete", flush=True)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )

    async def echo():
        await agent.connect()
        print("state ready", flush=True)
        while True:
            await agent.send(await agent.recv())

    task = None
    while line := await lines.readline():
        word, _, rest = line.decode().strip().partition(" ")
        if word == "credentials":
            agent.remote_username, agent.remote_password = rest.split(" ")
        elif word == "candidate":
            candidate = aioice.Candidate.from_sdp(rest.removeprefix("candidate:"))
            await agent.add_remote_candidate(candidate)
        elif word == "complete":
            # None says that no more will come.
            await agent.add_remote_candidate(None)
            task = asyncio.ensure_future(echo())
    if task:
        task.cancel()


asyncio.run(main())
