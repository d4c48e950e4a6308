"""Speaks to the gateway itself, in place of the server that would import it, and not as HTTP is spoken."""

import socket
import threading

LINE = b"x-" + b"h" * 1000 + b": " + b"v" * 1000 + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def endless(connection, head, what):
    connection.sendall(head)
    while True:
        connection.sendall(what)


def answer(connection):
    with connection:
        asked = connection.recv(65536)
        path = asked.split(b" ")[1].rsplit(b"/", 1)[-1] if b" " in asked else b""
        if path == b"headers":
            endless(connection, OK, LINE)
        elif path == b"header":
            endless(connection, OK + b"x-long: ", b"v" * 65536)
        elif path == b"interim":
            endless(connection, b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 100)
        elif path == b"status":
            endless(connection, b"HTTP/1.1 200 ", b"O" * 65536)
        elif path == b"chunks":
            endless(connection, OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000)
        elif path == b"chunk":
            endless(connection, OK + b"transfer-encoding: chunked\r\n\r\n", b"0" * 65536)
        elif path == b"extension":
            endless(connection, OK + b"transfer-encoding: chunked\r\n\r\n1;", b"e" * 65536)
        elif path == b"trailers":
            endless(connection, OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", LINE)
        elif path == b"length":
            endless(connection, OK + b"content-length: 99999999999999\r\n\r\n", bytes(65536))
        else:
            connection.sendall(OK + b"content-length: 4\r\nconnection: close\r\n\r\ncalm")


def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=quietly, args=(connection,), daemon=True).start()


def quietly(connection):
    try:
        answer(connection)
    except OSError:
        pass


serve(socket.create_server(("", 8000), backlog=256))

app = None
