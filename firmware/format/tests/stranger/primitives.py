"""BLAKE3 and XChaCha20-Poly1305 in plain Python: slow, short, from their specifications."""

import struct

MASK = 0xFFFFFFFF

# BLAKE3 (github.com/BLAKE3-team/BLAKE3-specs)
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64


def _mix(v, a, b, c, d, x, y):
    v[a] = (v[a] + v[b] + x) & MASK
    v[d] ^= v[a]
    v[d] = (v[d] >> 16 | v[d] << 16) & MASK
    v[c] = (v[c] + v[d]) & MASK
    v[b] ^= v[c]
    v[b] = (v[b] >> 12 | v[b] << 20) & MASK
    v[a] = (v[a] + v[b] + y) & MASK
    v[d] ^= v[a]
    v[d] = (v[d] >> 8 | v[d] << 24) & MASK
    v[c] = (v[c] + v[d]) & MASK
    v[b] ^= v[c]
    v[b] = (v[b] >> 7 | v[b] << 25) & MASK


def _compress(cv, block, counter, length, flags):
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = [*cv, *IV[:4], counter & MASK, counter >> 32, length, flags]
    for turn in range(7):
        _mix(v, 0, 4, 8, 12, m[0], m[1])
        _mix(v, 1, 5, 9, 13, m[2], m[3])
        _mix(v, 2, 6, 10, 14, m[4], m[5])
        _mix(v, 3, 7, 11, 15, m[6], m[7])
        _mix(v, 0, 5, 10, 15, m[8], m[9])
        _mix(v, 1, 6, 11, 12, m[10], m[11])
        _mix(v, 2, 7, 8, 13, m[12], m[13])
        _mix(v, 3, 4, 9, 14, m[14], m[15])
        m = [m[at] for at in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def _subtree(data, first, key, flags, root):
    """Chaining value of the tree over data, whose first chunk has number `first`."""
    if len(data) <= 1024:
        cv, blocks = key, [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
        for at, block in enumerate(blocks):
            last = at == len(blocks) - 1
            here = flags | (CHUNK_START if at == 0 else 0) | (CHUNK_END if last else 0) | (root if last else 0)
            cv = _compress(cv, block, first, len(block), here)
        return cv
    chunks = (len(data) - 1) // 1024
    left = 1 << (chunks.bit_length() - 1)
    pair = _subtree(data[: left * 1024], first, key, flags, 0) + _subtree(data[left * 1024 :], first + left, key, flags, 0)
    return _compress(key, struct.pack("<16I", *pair), 0, 64, flags | PARENT | root)


def _blake3(data, key, flags):
    return struct.pack("<8I", *_subtree(data, 0, key, flags, ROOT))


def blake3(data):
    return _blake3(data, IV, 0)


def keyed_hash(key, data):
    return _blake3(data, struct.unpack("<8I", key), KEYED)


def derive_key(context, material):
    return _blake3(material, struct.unpack("<8I", _blake3(context.encode(), IV, CONTEXT)), MATERIAL)


# XChaCha20-Poly1305 (RFC 8439, draft-irtf-cfrg-xchacha)
SIGMA = struct.unpack("<4I", b"expand 32-byte k")


def _quarter(v, a, b, c, d):
    for turn_d, turn_b in ((16, 12), (8, 7)):
        v[a] = (v[a] + v[b]) & MASK
        v[d] ^= v[a]
        v[d] = (v[d] << turn_d | v[d] >> (32 - turn_d)) & MASK
        v[c] = (v[c] + v[d]) & MASK
        v[b] ^= v[c]
        v[b] = (v[b] << turn_b | v[b] >> (32 - turn_b)) & MASK


def _rounds(state):
    v = list(state)
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            _quarter(v, a, b, c, d)
        for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            _quarter(v, a, b, c, d)
    return v


def _stream(key, counter, nonce, length):
    words, out = struct.unpack("<8I", key), bytearray()
    while len(out) < length:
        state = [*SIGMA, *words, counter, *struct.unpack("<3I", nonce)]
        out += struct.pack("<16I", *((a + b) & MASK for a, b in zip(state, _rounds(state))))
        counter += 1
    return bytes(out[:length])


def _poly1305(key, message):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at : at + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) % (1 << 128)).to_bytes(16, "little")


def unseal(key, nonce, aad, sealed):
    """The plaintext, or an error if the tag does not fit."""
    if len(sealed) < 16:
        raise ValueError("sealed bytes cut short")
    words = _rounds([*SIGMA, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce[:16])])
    subkey, short = struct.pack("<8I", *words[:4], *words[12:]), b"\0" * 4 + nonce[16:]
    body, tag = sealed[:-16], sealed[-16:]
    padded = b"".join(part + b"\0" * (-len(part) % 16) for part in (aad, body))
    if _poly1305(_stream(subkey, 0, short, 32), padded + struct.pack("<QQ", len(aad), len(body))) != tag:
        raise ValueError("damaged or forged: the tag does not fit")
    return bytes(a ^ b for a, b in zip(body, _stream(subkey, 1, short, len(body))))
