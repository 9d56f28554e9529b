"""wss: the PyPI package `websockets` with an authority that it is told of."""

import asyncio
import ssl
import subprocess
import tempfile
from pathlib import Path

from websockets.asyncio.client import connect

from gateway import Gateway
from suite import equal, run_all, test


def signed(folder):
    """Files of a certificate for localhost, which is its own authority, and of its key."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=ringway"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


@test
async def echo(gateway, stack):
    """Messages of all sizes come back in both versions, and resumed sessions work."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=gateway.chain)
        context.minimum_version = context.maximum_version = version
        for _ in range(2):
            url = f"wss://localhost:{gateway.authority.split(':')[1]}/echo"
            async with connect(url, ssl=context, proxy=None) as socket:
                for size in (0, 1, 125, 126, 16_384, 65_535):
                    await socket.send(bytes(size))
                    equal(await socket.recv(), bytes(size))
            equal(socket.close_code, 1000)


async def main():
    with tempfile.TemporaryDirectory() as name:
        chain, key = signed(Path(name))
        settings = [f'certificate.0.chain="{chain}"', f'certificate.0.key="{key}"']
        gateway = await Gateway.start("listener.0.tls=true", *settings)
        gateway.chain = chain
        await run_all(gateway)


asyncio.run(main())
