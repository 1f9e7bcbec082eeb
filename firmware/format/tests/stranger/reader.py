"""A reader of Mailkeep repositories written from FORMAT.md alone, with nothing of Mailkeep's code.

    reader.py REPOSITORY KEY-FILE TARGET      writes the newest snapshot's directories, files and links below TARGET
    reader.py --golden FOLDER                 reads the golden files of version 1

Needs python3, and the standard tools `age` and `zstd`. It proves that FORMAT.md is enough; it is far too slow for more.
Section numbers are those of FORMAT.md.
"""

import base64
import os
import struct
import subprocess
import sys

from primitives import blake3, derive_key, keyed_hash, unseal


def run(command, data=b""):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def unzstd(frame, raw_len):
    raw = run(["zstd", "-dcq"], frame)
    assert len(raw) == raw_len, "a frame of another length than declared"
    return raw


def unfold(folded):
    """§8: method 2."""
    head = folded.take(folded.varint())
    quads, end = folded.byte(), [b"\n", b"\r\n"][folded.byte()]
    lines = [folded.take(3 * quads) for _ in range(struct.unpack("<I", folded.take(4))[0])]
    tail = folded.take(len(folded.data) - folded.at)
    return head + b"".join(base64.b64encode(line) + end for line in lines) + tail


class Bytes:
    """§1: a cursor."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "cut short"
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def zigzag(self):
        raw = self.varint()
        return raw >> 1 if raw % 2 == 0 else -(raw >> 1) - 1

    def string(self):
        return self.take(self.varint())

    def end(self):
        return self.at == len(self.data)


def cbor(cursor):
    """§12."""
    first = cursor.byte()
    major, argument = first >> 5, first & 31
    if first in (0xF4, 0xF5, 0xF6):
        return {0xF4: False, 0xF5: True, 0xF6: None}[first]
    if argument >= 24:
        argument = int.from_bytes(cursor.take({24: 1, 25: 2, 26: 4, 27: 8}[argument]), "big")
    if major == 0:
        return argument
    if major == 1:
        return -1 - argument
    if major == 2:
        return cursor.take(argument)
    if major == 3:
        return cursor.take(argument).decode()
    if major == 4:
        return [cbor(cursor) for _ in range(argument)]
    assert major == 5, "neither tag nor float is allowed"
    return {cbor(cursor): cbor(cursor) for _ in range(argument)}


def decode_cbor(data):
    cursor = Bytes(data)
    value = cbor(cursor)
    assert cursor.end(), "bytes follow the document"
    return value


class Keys:
    """§3."""

    def __init__(self, line, repository):
        opening, named, master = line.decode().rstrip("\n").split(" ")
        assert opening == "mailkeep-master-v1" and bytes.fromhex(named) == repository
        master = bytes.fromhex(master)
        for name, use in {
            "id": "chunk id", "block": "pack block", "footer": "pack footer",
            "index": "index run", "manifest": "manifest", "label": "label",
        }.items():
            setattr(self, name, derive_key(f"mailkeep v1 2026-11-22 {use}", master))
        self.repository = repository

    def chunk_id(self, kind, plain):
        """§6."""
        return keyed_hash(self.id, bytes([kind]) + blake3(plain))[:24]


def nonce(salt, number):
    """§4."""
    return salt + struct.pack("<Q", number)


def label(data):
    """§5, without the MAC."""
    assert data[:12] == b"MK-LABL\n" + struct.pack("<I", 1)
    value = decode_cbor(data[12:-32])
    assert value["version"] == 1 and value["required_features"] == []
    return value


def header(data, magic):
    """The common opening of packs (§7) and index runs (§9): repository id and salt."""
    opening, version, repository, salt = struct.unpack("<8sI16s16s", data[:44])
    assert (opening, version) == (magic, 1)
    return repository, salt


class Pack:
    """§7."""

    def __init__(self, keys, data):
        repository, self.salt = header(data, b"MK-PACK\n")
        assert repository == keys.repository
        offset, length, version, magic = struct.unpack("<QII8s", data[-24:])
        assert (version, magic, offset + length + 24) == (1, b"MK-PEND\n", len(data))
        aad = b"mailkeep footer" + data[:44] + struct.pack("<Q", offset)
        footer = Bytes(unseal(keys.footer, nonce(self.salt, 0), aad, data[offset : offset + length]))
        self.keys, self.data, self.blocks, at = keys, data, [], 44
        for _ in range(footer.varint()):
            kind, method = footer.byte(), footer.byte()
            stored_len, raw_len = footer.varint(), footer.varint()
            chunks = [(footer.take(24), footer.varint()) for _ in range(footer.varint())]
            self.blocks.append((at, stored_len, raw_len, kind, method, chunks))
            at += stored_len
        assert footer.end() and at == offset

    def open(self, number):
        """§8: raw bytes of a block."""
        at, stored_len, raw_len, kind, method, _ = self.blocks[number]
        aad = b"mailkeep block" + struct.pack("<I16sBBI", 1, self.keys.repository, kind, method, raw_len)
        plain = unseal(self.keys.block, nonce(self.salt, number), aad, self.data[at : at + stored_len])
        if method == 2:
            raw = unfold(Bytes(run(["zstd", "-dcq"], plain)))
            assert len(raw) == raw_len, "base64 of another length than declared"
            return raw
        return unzstd(plain, raw_len) if method == 1 else plain

    def chunks(self):
        """All chunks, each checked against its id."""
        for number, (_, _, raw_len, kind, _, chunks) in enumerate(self.blocks):
            raw = Bytes(self.open(number))
            for name, length in chunks:
                plain = raw.take(length)
                assert self.keys.chunk_id(kind, plain) == name, "a chunk is not what it is called"
                yield name, plain
            assert raw.end()


def index_run(keys, data):
    """§9: chunk id, pack id, block number, offset, length."""
    _, salt = header(data, b"MK-INDX\n")
    aad = b"mailkeep index" + data[:44]
    pages = []
    for number in range(len(data) // 4096):
        page = data[number * 4096 : (number + 1) * 4096]
        pages.append(unseal(keys.index, nonce(salt, number), aad, page[44:] if number == 0 else page))
    packs, blocks, entries = struct.unpack("<IIQ", pages[0][:16])
    at = 1

    def table(count, form):
        nonlocal at
        size = struct.calcsize(form)
        per_page = 4080 // size
        records = []
        for _ in range(-(-count // per_page)):
            held = min(per_page, count - len(records))
            records += struct.iter_unpack(form, pages[at][: held * size])
            assert not any(pages[at][held * size :])
            at += 1
        return records

    packs, blocks = table(packs, "<32s16sII"), table(blocks, "<IIIIIBBH")
    found = [(name, packs[blocks[block][0]][0], blocks[block][1], offset, length)
             for name, block, offset, length in table(entries, "<24sIII")]
    assert at == len(pages) and found == sorted(found, key=lambda entry: entry[0])
    return found


def manifest(keys, data):
    """§11."""
    magic, version, generation, repository, salt = struct.unpack("<8sIQ16s16s", data[:52])
    assert (magic, version, repository) == (b"MK-MANI\n", 1, keys.repository)
    plain = unseal(keys.manifest, nonce(salt, generation), b"mailkeep manifest" + data[:52], data[52:])
    value = decode_cbor(unzstd(plain[4:], struct.unpack("<I", plain[:4])[0]))
    assert value["generation"] == generation and value["required_features"] in ([], ["base64"])
    return value


def tree(data):
    """§10."""
    cursor, nodes = Bytes(data), []
    assert cursor.byte() == 1

    def content():
        return [(cursor.take(24), cursor.varint()) for _ in range(cursor.varint())]

    while not cursor.end():
        node = {"kind": cursor.byte(), "name": cursor.string(), "mode": cursor.varint()}
        node["uid"], node["gid"] = cursor.varint(), cursor.varint()
        node["mtime"], node["ctime"] = ((cursor.zigzag(), cursor.varint()) for _ in range(2))
        node["inode"], node["links"] = cursor.varint(), cursor.varint()
        node["device"] = cursor.varint() if node["links"] > 1 else 0
        node["xattrs"] = [(cursor.string(), cursor.string()) for _ in range(cursor.varint())]
        if node["kind"] in (0, 1):
            node["size"] = cursor.varint()
        if node["kind"] in (0, 1, 2):
            node["content"] = content()
        elif node["kind"] == 3:
            node["target"] = cursor.string()
        elif node["kind"] in (6, 7):
            node["device_number"] = cursor.varint(), cursor.varint()
        nodes.append(node)
    return nodes


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def restore(repository, key_file, target):
    """§15."""
    raw_label = read(repository, "label")
    keys = None
    for name in sorted(os.listdir(os.path.join(repository, "keys"))):
        path = os.path.join(repository, "keys", name)
        try:
            line = read(path) if name == "plain" else run(["age", "-d", "-i", key_file, path])
        except subprocess.CalledProcessError:
            continue
        keys = Keys(line, label(raw_label)["repository"])
    assert keys, "the key opens no key file"
    assert keyed_hash(keys.label, raw_label[:-32]) == raw_label[-32:]
    names = os.listdir(os.path.join(repository, "manifests"))
    newest = max(names, key=lambda name: int(name.split("-")[0]))
    data = read(repository, "manifests", newest)
    assert blake3(data).hex().startswith(newest.split("-")[1])
    chunks = {}
    for folder, _, files in os.walk(os.path.join(repository, "packs")):
        for name in files:
            pack = read(folder, name)
            assert blake3(pack).hex() == name, "a pack is not what it is called"
            chunks.update(Pack(keys, pack).chunks())
    linked = {}

    def join(content):
        assert all(len(chunks[name]) == length for name, length in content)
        return b"".join(chunks[name] for name, _ in content)

    def fill(folder, content):
        for node in tree(join(content)):
            path = os.path.join(folder, node["name"])
            same = (node["device"], node["inode"])
            if node["kind"] == 2:
                os.mkdir(path)
                fill(path, node["content"])
                os.chmod(path, node["mode"])
            elif node["kind"] == 3:
                os.symlink(node["target"], path)
            elif node["kind"] in (0, 1) and node["links"] > 1 and same in linked:
                os.link(linked[same], path)
            elif node["kind"] in (0, 1):
                plain = join(node["content"])
                assert len(plain) == node["size"]
                with open(path, "wb") as file:
                    file.write(plain)
                os.chmod(path, node["mode"])
                linked[same] = path
            if node["kind"] in (0, 1, 2):
                at = node["mtime"][0] * 10**9 + node["mtime"][1]
                os.utime(path, ns=(at, at))

    os.makedirs(target)
    fill(os.fsencode(target), [(chunk["id"], chunk["length"]) for chunk in manifest(keys, data)["root"]])


def golden(folder):
    raw_label = read(folder, "label")
    value = label(raw_label)
    assert value["label"] == "Tuesday" and value["created"] == 1790000000
    line = run(["age", "-d", "-i", os.path.join(folder, "recovery-key"), os.path.join(folder, "key.age")])
    assert line == read(folder, "key.plain")
    keys = Keys(line, value["repository"])
    assert keyed_hash(keys.label, raw_label[:-32]) == raw_label[-32:]
    assert keys.chunk_id(0, b"chunk").hex() == read(folder, "chunk-id").decode().strip()
    mails = [plain for _, plain in Pack(keys, read(folder, "pack")).chunks()]
    assert mails[0] == b"To: anna\n\n" + b"The same words again. " * 20 and len(mails) == 4
    stored = read(folder, "pack-stored")
    expected = []
    for number, block in enumerate(Pack(keys, stored).blocks):
        offset = 0
        for name, length in block[5]:
            expected.append((name, blake3(stored), number, offset, length))
            offset += length
    assert index_run(keys, read(folder, "run")) == sorted(expected)
    body = manifest(keys, read(folder, "manifest"))
    assert body == decode_cbor(read(folder, "manifest.cbor"))
    assert body["passes"][1]["clock"] == {"seconds": -1, "nanos": 999999999} and body["users"][1] == [104, "cyrus"]
    nodes = tree(read(folder, "tree"))
    assert [node["kind"] for node in nodes] == [7, 6, 2, 4, 0, 1, 5, 3]
    assert nodes[7]["target"] == b"../elsewhere" and nodes[0]["mtime"] == (-1, 5) and nodes[1]["device"] == 2049


if __name__ == "__main__":
    if sys.argv[1] == "--golden":
        golden(sys.argv[2])
        print("golden files read")
    else:
        restore(*sys.argv[1:4])
