"""The PyPI package `centrifuge-python`: daily use, lost connections, drains."""

import asyncio

from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ReplyError,
    StreamPosition,
    SubscriptionEventHandler,
)

from gateway import Gateway
from proxy import Proxy
from suite import equal, run_all, test, until


class Listener(ClientEventHandler):
    """A client, and what became of its connection."""

    def __init__(self, authority, **options):
        self.connecting, self.connected, self.disconnected = [], [], []
        impatience = {"min_reconnect_delay": 0.02, "max_reconnect_delay": 0.1, "timeout": 3.0}
        url = f"ws://{authority}/connection/websocket"
        self.client = Client(url, events=self, proxy=None, **impatience, **options)

    @classmethod
    async def connect(cls, authority, stack, **options):
        listener = cls(authority, **options)
        stack.push_async_callback(listener.client.disconnect)
        await listener.client.connect()
        await listener.client.ready(5)
        return listener

    async def on_connecting(self, ctx):
        self.connecting.append((ctx.code, ctx.reason))

    async def on_connected(self, ctx):
        self.connected.append(ctx)

    async def on_disconnected(self, ctx):
        self.disconnected.append((ctx.code, ctx.reason))

    @property
    def losses(self):
        return self.connecting[1:]

    async def follow(self, channel):
        followed = Followed(self.client, channel)
        await followed.subscription.subscribe()
        await followed.subscription.ready(5)
        return followed


class Followed(SubscriptionEventHandler):
    """A subscription, and what it received."""

    def __init__(self, client, channel):
        self.publications, self.subscribed, self.unsubscribed = [], [], []
        self.subscription = client.new_subscription(channel, events=self)

    async def on_subscribed(self, ctx):
        self.subscribed.append(ctx)

    async def on_unsubscribed(self, ctx):
        self.unsubscribed.append(ctx.code)

    async def on_publication(self, ctx):
        self.publications.append(ctx.pub)

    @property
    def data(self):
        return [publication.data for publication in self.publications]

    @property
    def offsets(self):
        return [publication.offset for publication in self.publications]

    async def received(self, count):
        await until(f"{count} publications", lambda: len(self.publications) >= count)


async def refused(code, awaitable):
    """Waits for `awaitable` to be refused with `code`."""
    try:
        await awaitable
    except ReplyError as error:
        equal(error.code, code)
    else:
        raise AssertionError(f"not refused with {code}")


@test
async def messages(gateway, stack):
    """What a client publishes reaches all subscribers once, itself included."""
    listeners = [await Listener.connect(gateway.authority, stack) for _ in range(2)]
    anna, bert = [await listener.follow("chat:hall") for listener in listeners]
    said = [{"text": f"line\n{index} „äöü“ 🦀", "deep": [None, [1.5]]} for index in range(50)]
    for data in said:
        await anna.subscription.publish(data)
    for followed in (anna, bert):
        await followed.received(50)
        equal(followed.data, said)
        equal(followed.offsets, list(range(1, 51)))
        equal({p.info.client for p in followed.publications}, {listeners[0].connected[0].client})


@test
async def api_publications(gateway, stack):
    """What the API publishes arrives with the offset and epoch that it was told."""
    followed = await (await Listener.connect(gateway.authority, stack)).follow("news:today")
    told = [await gateway.publish("news:today", data) for data in ({"headline": "one"}, "two")]
    await followed.received(2)
    equal(followed.data, [{"headline": "one"}, "two"])
    equal(followed.offsets, [each["offset"] for each in told])
    equal(followed.subscribed[0].stream_position, StreamPosition(offset=0, epoch=told[0]["epoch"]))


@test
async def history(gateway, stack):
    """The history is read forwards, backwards and from a position."""
    followed = await (await Listener.connect(gateway.authority, stack)).follow("chat:history")
    await gateway.publish_numbers("chat:history", 1, 8)
    top = await followed.subscription.history(limit=0)
    equal((top.publications, top.offset), ([], 8))

    async def numbers(**options):
        return [p.data for p in (await followed.subscription.history(**options)).publications]

    equal(await numbers(limit=-1), [1, 2, 3, 4, 5, 6, 7, 8])
    equal(await numbers(limit=3, reverse=True), [8, 7, 6])
    equal(await numbers(limit=2, since=StreamPosition(offset=5, epoch=top.epoch)), [6, 7])


@test
async def unsubscribing(gateway, stack):
    """After unsubscribing nothing arrives; subscribing again works."""
    listener = await Listener.connect(gateway.authority, stack)
    followed = await listener.follow("demo")
    await followed.subscription.unsubscribe()
    # A command that is answered behind the unsubscribe.
    await listener.client.publish("elsewhere", 0)
    await gateway.publish("demo", "unheard")
    await asyncio.sleep(0.1)
    equal(followed.data, [])
    await followed.subscription.subscribe()
    await followed.subscription.ready(5)
    await gateway.publish("demo", "heard")
    await until("the publication", lambda: "heard" in followed.data)


@test
async def refusals(gateway, stack):
    """A refused command carries the code of its cause, and the connection goes on."""
    listener = await Listener.connect(gateway.authority, stack)
    client = listener.client
    await refused(103, client.publish("news:today", 1))
    await refused(102, client.publish("nowhere:x", 1))
    await refused(103, client.history("chat:hall", limit=1))
    await refused(108, client.rpc("method", {}))
    await refused(108, client.presence("demo"))
    unknown = Followed(client, "nowhere:x")
    await unknown.subscription.subscribe()
    await until("the refusal", lambda: unknown.unsubscribed == [102])
    await client.publish("demo", "still here")
    equal(listener.losses, [])


@test
async def tokens(gateway, stack):
    """A connection with a token is refused for good."""
    listener = Listener(gateway.authority, token="not ours")
    stack.push_async_callback(listener.client.disconnect)
    try:
        await listener.client.connect()
    except CentrifugeError:
        pass  # The events tell more.
    await until("the refusal", lambda: listener.disconnected == [(3500, "invalid token")])


async def behind_proxy(gateway, stack, channel):
    proxy = await Proxy.start(gateway.port, stack)
    listener = await Listener.connect(proxy.authority, stack)
    return proxy, listener, await listener.follow(channel)


async def while_cut(gateway, net, channel, first, last):
    """Publishes numbers while the client is cut off; how it then subscribed again."""
    proxy, listener, followed = net
    proxy.cut()
    await until("the client notices", lambda: listener.losses)
    await gateway.publish_numbers(channel, first, last)
    proxy.heal()
    await until("the client is back", lambda: len(followed.subscribed) == 2)
    return followed.subscribed[1]


@test
async def recovery(gateway, stack):
    """What was missed behind a cut is recovered, in order and once."""
    net = await behind_proxy(gateway, stack, "recover")
    followed = net[2]
    await gateway.publish_numbers("recover", 1, 5)
    await followed.received(5)
    again = await while_cut(gateway, net, "recover", 6, 25)
    equal((again.was_recovering, again.recovered), (True, True))
    await gateway.publish("recover", 26)
    await followed.received(26)
    equal(followed.data, list(range(1, 27)))
    equal(followed.offsets, list(range(1, 27)))


@test
async def stream(gateway, stack):
    """Many cuts under a steady stream lose and double nothing."""
    proxy, _, followed = await behind_proxy(gateway, stack, "long:stream")
    publishing = asyncio.create_task(gateway.publish_numbers("long:stream", 1, 400))
    for cut in range(1, 6):
        await followed.received(cut * 60)
        proxy.reset()
    await publishing
    await followed.received(400)
    equal(followed.data, list(range(1, 401)))
    assert len(followed.subscribed) > 2
    assert all(again.recovered for again in followed.subscribed[1:])


@test
async def loss(gateway, stack):
    """What the history does not cover is told, and nothing of it is delivered."""
    net = await behind_proxy(gateway, stack, "short:a")
    followed = net[2]
    await gateway.publish_numbers("short:a", 1, 3)
    await followed.received(3)
    again = await while_cut(gateway, net, "short:a", 4, 9)
    equal((again.was_recovering, again.recovered), (True, False))
    await gateway.publish("short:a", 10)
    await followed.received(4)
    equal(followed.data, [1, 2, 3, 10])


@test
async def pings(gateway, stack):
    """Pings keep a quiet connection through several intervals."""
    listener = await Listener.connect(gateway.authority, stack, max_server_ping_delay=1.0)
    await asyncio.sleep(3.5)
    equal((listener.losses, listener.disconnected), ([], []))
    equal(len(listener.connected), 1)


@test
async def disconnects(gateway, stack):
    """The API disconnects a client for good."""
    listener = await Listener.connect(gateway.authority, stack)
    await gateway.api("disconnect", client=listener.connected[0].client)
    await until("the end", lambda: listener.disconnected == [(3503, "force disconnect")])
    equal(listener.losses, [])


@test
async def drain(gateway, stack):
    """A drained gateway sends its clients to the next one and ends."""
    old = await Gateway.start()
    proxy, listener, followed = await behind_proxy(old, stack, "moving")
    await old.publish("moving", "before")
    await followed.received(1)
    proxy.target = gateway.port
    old.terminate()
    equal(await old.ended(), 0)
    await until("the client is at the next one", lambda: len(followed.subscribed) == 2)
    equal(listener.losses, [(3001, "shutdown")])
    equal((followed.subscribed[1].was_recovering, followed.subscribed[1].recovered), (True, False))
    await gateway.publish("moving", "after")
    await followed.received(2)
    equal(followed.data, ["before", "after"])


async def main():
    await run_all(await Gateway.start())


asyncio.run(main())
