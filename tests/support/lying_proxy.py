#!/usr/bin/env python3
"""Stands between a client and a server, both on unix sockets, and exchanges a text in what the
server answers for another one of the same length: a server that lies. Prints "ready" when it
serves, then "lied" for each exchange.

usage: lying_proxy.py LISTEN SERVER TRUTH LIE
"""

import socket
import sys
import threading

PIECE = 1 << 16


def forward(source, sink, change):
    try:
        while piece := source.recv(PIECE):
            sink.sendall(change(piece))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one of the two has gone


def main():
    listen, server = sys.argv[1:3]
    truth, lie = (text.encode() for text in sys.argv[3:])
    assert len(truth) == len(lie)

    def change(piece):
        if truth in piece:
            print("lied", flush=True)
        return piece.replace(truth, lie)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(listen)
    listener.listen()
    print("ready", flush=True)
    while True:
        client = listener.accept()[0]
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(server)
        for pair in (client, upstream, bytes), (upstream, client, change):
            threading.Thread(target=forward, args=pair, daemon=True).start()


main()
