"""
The clients of the memory benchmark, as a program of its own so that their memory and work are not the proxy's.

Must not know what is measured. Each prints one line when it is done, and fails if it didn't get what it wanted.

    client.py PORT download TARGET BYTES      reads the answer as fast as it can
    client.py PORT upload TARGET BYTES        sends a body as fast as it can
    client.py PORT slow TARGET SECONDS RATE   reads RATE bytes a second for some seconds, then leaves
    client.py PORT idle CONNECTIONS           makes connections, one request on each, and keeps them until stdin ends
"""
