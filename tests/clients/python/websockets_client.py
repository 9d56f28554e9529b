"""The PyPI package `websockets` against the raw protocol and /echo."""

import asyncio
import os

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from gateway import Gateway
from suite import equal, run_all, test

MESSAGE_BYTES_MAX = 64 * 1024


async def opened(gateway, stack, path, **options):
    """An open connection that ends with the test."""
    connecting = connect(f"ws://{gateway.authority}{path}", proxy=None, **options)
    return await stack.enter_async_context(connecting)


async def received(socket, count):
    return [await socket.recv() for _ in range(count)]


async def close_of(socket):
    """Waits for the gateway's close; its code and reason."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as end:
        return end.rcvd.code, end.rcvd.reason


@test
async def kinds(gateway, stack):
    """Text stays text and binary stays binary, for others and for the sender."""
    anna, bert = [await opened(gateway, stack, "/topic/kinds") for _ in range(2)]
    sent = ["", "„zwölf“ 🦀", b"", bytes([0, 1, 254, 255]), '{"json": true}']
    for message in sent:
        await anna.send(message)
    equal(await received(anna, len(sent)), sent)
    equal(await received(bert, len(sent)), sent)


@test
async def subprotocol(gateway, stack):
    """The subprotocol `ringway` is agreed when it is offered."""
    socket = await opened(gateway, stack, "/topic/demo", subprotocols=["other", "ringway"])
    equal(socket.subprotocol, "ringway")
    equal((await opened(gateway, stack, "/topic/demo")).subprotocol, None)


@test
async def recovery(gateway, stack):
    """A position recovers what was missed and is told in headers."""
    first = await opened(gateway, stack, "/topic/recover")
    epoch = first.response.headers["Ringway-Epoch"]
    equal(first.response.headers["Ringway-Offset"], "0")
    for message in ("one", b"two", "three"):
        await first.send(message)
    await received(first, 3)
    again = await opened(gateway, stack, f"/topic/recover?offset=1&epoch={epoch}")
    headers = again.response.headers
    equal((headers["Ringway-Recovered"], headers["Ringway-Offset"]), ("true", "1"))
    equal(await received(again, 2), [b"two", "three"])
    lost = await opened(gateway, stack, "/topic/recover?offset=1&epoch=other")
    headers = lost.response.headers
    equal((headers["Ringway-Recovered"], headers["Ringway-Offset"]), ("false", "3"))


@test
async def pings(gateway, stack):
    """Ten pings get their pongs, and the gateway's own pings are answered."""
    socket = await opened(gateway, stack, "/topic/demo")
    pongs = [await socket.ping(f"ping {number}") for number in range(10)]
    await asyncio.gather(*pongs)
    # Longer than a ping and its patience: a connection that had not answered would be closed.
    await asyncio.sleep(2)
    await (await socket.ping())


@test
async def sizes(gateway, stack):
    """Messages up to the limit are echoed, whole and in fragments; more is refused."""
    socket = await opened(gateway, stack, "/echo", compression="deflate")
    for size in (125, 126, 65_535, MESSAGE_BYTES_MAX):
        message = os.urandom(size)
        await socket.send(message)
        assert await socket.recv() == message, size
    await socket.send(["in ", "three ", "fragments"])
    equal(await socket.recv(), "in three fragments")
    await socket.send(bytes(MESSAGE_BYTES_MAX + 1))
    equal(await close_of(socket), (1009, "too_big"))


@test
async def close_codes(gateway, stack):
    """Close codes are echoed, and a denied publication has its own."""
    for code in (1000, 1001, 3000, 4321):
        socket = await opened(gateway, stack, "/echo")
        await socket.close(code, "enough")
        equal(socket.close_code, code)
    silent = await opened(gateway, stack, "/topic/news:x")
    await silent.send("hello")
    equal(await close_of(silent), (1008, "publish denied"))


@test
async def compression(gateway, stack):
    """Clients with and without compression, with wide and narrow windows, hear the same."""
    factories = [
        None,
        [ClientPerMessageDeflateFactory()],
        [ClientPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=12)],
        [ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=True)],
        [ClientPerMessageDeflateFactory(client_no_context_takeover=True)],
    ]
    sockets = [
        await opened(gateway, stack, "/topic/packed", compression=None, extensions=extensions)
        for extensions in factories
    ]
    answers = [socket.response.headers.get("Sec-WebSocket-Extensions") for socket in sockets]
    equal(answers[0], None)
    for answer in answers[1:]:
        assert "server_no_context_takeover" in answer, answer
    assert "server_max_window_bits=12" in answers[2], answers[2]
    assert "server_max_window_bits=9" in answers[3], answers[3]
    texts = [f"{number}: " + "the same words over and over; " * number for number in range(1, 300, 20)]
    for number, text in enumerate(texts):
        await sockets[number % len(sockets)].send(text)
        for socket in sockets:
            equal(await socket.recv(), text)
    echo = await opened(gateway, stack, "/echo")
    assert "permessage-deflate" in echo.response.headers["Sec-WebSocket-Extensions"]
    for text in [*texts, "", "short"]:
        await echo.send(text)
        equal(await echo.recv(), text)


@test
async def refusals(gateway, stack):
    """Requests that cannot be served are refused with a status."""
    cases = [
        ("/topic/demo?offset=x", None, 400),
        ("/topic/nowhere:x", None, 404),
        ("/topic/demo", "http://evil.example", 403),
    ]
    for path, origin, status in cases:
        try:
            await opened(gateway, stack, path, origin=origin)
        except InvalidStatus as refused:
            equal(refused.response.status_code, status)
        else:
            raise AssertionError(f"{path} is not refused")


async def main():
    await run_all(await Gateway.start())


asyncio.run(main())
