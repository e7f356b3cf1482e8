"""Two aioice agents that may use their relayed candidates alone, through a TURN server.

usage: relay.py HOST PORT USERNAME PASSWORD udp|tcp|tls
Ends with 0 when a message went each way and back.
"""

import asyncio
import sys

import aioice


def relayed_only(connection):
    """Keeps nothing but the relayed candidates."""
    return [c for c in connection.local_candidates if c.type == "relay"]


async def main(host, port, username, password, transport):
    def agent(controlling):
        return aioice.Connection(
            ice_controlling=controlling,
            components=1,
            use_ipv6=False,
            turn_server=(host, port),
            turn_username=username,
            turn_password=password,
            turn_transport="tcp" if transport == "tls" else transport,
            turn_ssl=transport == "tls",
        )

    near, far = agent(True), agent(False)
    await asyncio.gather(near.gather_candidates(), far.gather_candidates())
    for one, other in ((near, far), (far, near)):
        candidates = relayed_only(one)
        assert candidates, "no relayed candidate"
        other.remote_username = one.local_username
        other.remote_password = one.local_password
        for candidate in candidates:
            await other.add_remote_candidate(candidate)
        await other.add_remote_candidate(None)
    # What arrives at host addresses does not count: the pair has to be relayed on both sides.
    await asyncio.wait_for(asyncio.gather(near.connect(), far.connect()), 20)
    for size in (1, 100, 1200):
        message = bytes(size)
        await near.send(message)
        assert await asyncio.wait_for(far.recv(), 5) == message
        await far.send(message[::-1])
        assert await asyncio.wait_for(near.recv(), 5) == message
    await asyncio.gather(near.close(), far.close())


if __name__ == "__main__":
    HOST, PORT, NAME, PASSWORD, TRANSPORT = sys.argv[1:]
    asyncio.run(main(HOST, int(PORT), NAME, PASSWORD, TRANSPORT))
    print("relayed over", TRANSPORT)
