"""The websockets library over every hop."""

import asyncio

import google.auth.transport.requests
import google.oauth2.id_token
import websockets

audience = "https://orders-303000000003.europe-west1.run.app"
token = google.oauth2.id_token.fetch_id_token(google.auth.transport.requests.Request(), audience)


async def main():
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(
            "wss://internal.example.com/orders/ws", additional_headers=headers) as socket:
        for size in (1, 100, 70_000):
            text = "x" * size
            await socket.send(text)
            assert await asyncio.wait_for(socket.recv(), 30) == text
        await socket.send(b"\x00\xff")
        assert await asyncio.wait_for(socket.recv(), 30) == b"\x00\xff"
    try:
        async with websockets.connect("wss://internal.example.com/orders/ws"):
            raise AssertionError("opened without a token")
    except websockets.exceptions.InvalidStatus as refused:
        assert refused.response.status_code == 403, refused.response.status_code


asyncio.run(main())
print("websockets: ok")
