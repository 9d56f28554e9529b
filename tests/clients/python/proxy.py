"""A TCP proxy that stands for the network between client and gateway, and its failures."""

import asyncio


class Proxy:
    """A proxy to `target`, a port of this machine."""

    def __init__(self, target):
        self.target = target
        self.up = True
        self.writers = set()

    @classmethod
    async def start(cls, target, stack):
        proxy = cls(target)
        proxy.server = await asyncio.start_server(proxy._join, "127.0.0.1", 0)
        stack.callback(proxy.stop)
        return proxy

    @property
    def authority(self):
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _join(self, reader, writer):
        if not self.up:
            writer.transport.abort()
            return
        gateway_reader, gateway_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers |= {writer, gateway_writer}
        await asyncio.gather(self._pump(reader, gateway_writer), self._pump(gateway_reader, writer))
        self.writers -= {writer, gateway_writer}

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # The other side learns of it by the close.
        writer.close()

    def cut(self):
        """Resets all connections and refuses new ones until `heal`."""
        self.up = False
        self.reset()

    def reset(self):
        for writer in list(self.writers):
            writer.transport.abort()

    def heal(self):
        self.up = True

    def stop(self):
        self.cut()
        self.server.close()
