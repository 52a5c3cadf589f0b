"""A WebSocket in an HTTP/2 stream (RFC 8441): the h2 and wsproto libraries over every hop."""

import os
import socket
import ssl

import google.auth.transport.requests
import google.oauth2.id_token
import h2.connection
import h2.events
import h2.settings
import wsproto.connection
import wsproto.events

audience = "https://orders-303000000003.europe-west1.run.app"
token = google.oauth2.id_token.fetch_id_token(google.auth.transport.requests.Request(), audience)
host = "internal.example.com"

context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
context.set_alpn_protocols(["h2"])
stream = context.wrap_socket(socket.create_connection((host, 443), 30), server_hostname=host)
assert stream.selected_alpn_protocol() == "h2"
http = h2.connection.H2Connection()
http.initiate_connection()
stream.sendall(http.data_to_send())


def events():
    """The next events of the connection."""
    data = stream.recv(65536)
    assert data, "the connection was closed"
    happened = http.receive_data(data)
    stream.sendall(http.data_to_send())
    return happened


while not any(isinstance(event, h2.events.RemoteSettingsChanged) for event in events()):
    pass
extended = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
assert http.remote_settings.get(extended) == 1, "the server knows no extended CONNECT"

request = http.get_next_available_stream_id()
http.send_headers(request, [
    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
    (":authority", host), (":path", "/orders/ws"), ("sec-websocket-version", "13"),
    ("authorization", f"Bearer {token}"),
])
stream.sendall(http.data_to_send())

status = None
websocket = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
received = []


def pump():
    """Takes what comes: the answer's head, and frames of the WebSocket."""
    global status
    for event in events():
        if isinstance(event, h2.events.ResponseReceived):
            status = dict((k.decode() if isinstance(k, bytes) else k,
                           v.decode() if isinstance(v, bytes) else v)
                          for k, v in event.headers)[":status"]
        elif isinstance(event, h2.events.DataReceived):
            http.acknowledge_received_data(event.flow_controlled_length, request)
            if event.data:  # the stream's end comes as an empty one
                websocket.receive_data(event.data)
                received.extend(websocket.events())
            stream.sendall(http.data_to_send())
        elif isinstance(event, (h2.events.StreamReset, h2.events.StreamEnded)):
            assert closing, event


def send(event):
    """Sends a frame of the WebSocket, in as many DATA frames as it needs."""
    data = websocket.send(event)
    while data:
        room = min(http.max_outbound_frame_size, http.local_flow_control_window(request))
        if room == 0:
            pump()
            continue
        http.send_data(request, data[:room])
        stream.sendall(http.data_to_send())
        data = data[room:]


closing = False
while status is None:
    pump()
assert status == "200", status

for text in ("a", "b" * 100, "c" * 20_000):
    send(wsproto.events.TextMessage(text))
    echoed = ""
    while len(echoed) < len(text):
        while not received:
            pump()
        message = received.pop(0)
        assert isinstance(message, wsproto.events.TextMessage), message
        echoed += message.data
    assert echoed == text

closing = True
send(wsproto.events.CloseConnection(1000))
while not any(isinstance(one, wsproto.events.CloseConnection) for one in received):
    pump()
print("WebSocket over HTTP/2: ok")
