"""grpcio over every hop: TLS to the load balancer, HTTP/2 to the container, trailers back."""

import sys

import google.auth.transport.requests
import google.oauth2.id_token
import grpc

audience = "https://orders-303000000003.europe-west1.run.app"
token = google.oauth2.id_token.fetch_id_token(google.auth.transport.requests.Request(), audience)
metadata = [("authorization", f"Bearer {token}"), ("x-serverless-authorization", f"Bearer {token}")]


def message(text):
    """An EchoRequest: field 1, a string."""
    data = text.encode()
    return b"\x0a" + bytes([len(data)]) + data


# Without ":443", which would become part of :authority, and host rules compare ports.
channel = grpc.secure_channel("grpc.internal.example.com", grpc.ssl_channel_credentials())
same = lambda data: data
unary = channel.unary_unary("/echo.Echo/Echo", request_serializer=same, response_deserializer=same)
assert unary(message("hello"), metadata=metadata, timeout=30) == message("hello")

stream = channel.stream_stream(
    "/echo.Echo/EchoStream", request_serializer=same, response_deserializer=same)
sent = [message(f"number {n}") for n in range(20)]
assert list(stream(iter(sent), metadata=metadata, timeout=30)) == sent

try:
    unary(message("hello"), timeout=30)
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error.code()
else:
    raise AssertionError("a call without a token was answered")
try:
    unary(message("hello"), metadata=[("authorization", "Bearer nonsense")], timeout=30)
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error.code()
else:
    raise AssertionError("a call with a bad token was answered")
print("grpcio: ok")
sys.exit(0)
