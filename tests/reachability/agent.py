"""Plays a VM: serves TCP on 80 and 8080 and UDP on 8080, and tries what it is told to try.

Arguments: a folder, and the VM's name. It says `NAME.ready` when it listens, waits for `go`, which
lists `[protocol, address, port, patience]` for each name, and writes what it saw to `NAME.seen`."""

import asyncio
import json
import os
import socket
import struct
import sys

folder, name = sys.argv[1], sys.argv[2]


def write(suffix, text):
    path = os.path.join(folder, name + suffix)
    with open(path + ".part", "w") as file:
        file.write(text)
    os.rename(path + ".part", path)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(data, peer)


async def tcp(address, port, patience):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), patience)
        writer.close()
        return "open"
    except ConnectionRefusedError:
        return "refused"
    except (asyncio.TimeoutError, TimeoutError):
        return "silent"
    except OSError as error:
        return f"error {error.errno}"


async def datagram(kind, protocol, address, port, message, patience):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, kind, protocol) as client:
        client.setblocking(False)
        try:
            client.connect((address, port))
            # Datagrams are sent again, as a resolver or `ping` would.
            for _ in range(3):
                await loop.sock_sendall(client, message)
                try:
                    await asyncio.wait_for(loop.sock_recv(client, 1024), patience / 3)
                    return "open"
                except (asyncio.TimeoutError, TimeoutError):
                    pass
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return f"error {error.errno}"


async def attempt(protocol, address, port, patience):
    if protocol == "tcp":
        return await tcp(address, port, patience)
    if protocol == "udp":
        return await datagram(socket.SOCK_DGRAM, 0, address, port, b"hello", patience)
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"hello"
    return await datagram(socket.SOCK_DGRAM, socket.IPPROTO_ICMP, address, 0, echo, patience)


async def main():
    async def served(_, writer):
        writer.close()

    for port in (80, 8080):
        await asyncio.start_server(served, "0.0.0.0", port, backlog=1000)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, local_addr=("0.0.0.0", 8080))
    write(".ready", "")
    go = os.path.join(folder, "go")
    while not os.path.exists(go):
        await asyncio.sleep(0.02)
    with open(go) as file:
        wishes = json.load(file).get(name, [])
    seen = await asyncio.gather(*(attempt(*wish) for wish in wishes))
    write(".seen", json.dumps(seen))
    await asyncio.sleep(3600)


asyncio.run(main())
