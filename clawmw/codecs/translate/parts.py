"""Content blocks of messages and Responses, to and from the parts of chat completions."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from clawmw.codecs.translate.base import Body, items_of, refuse

__all__ = [
    "block_from_part",
    "data_url",
    "item_from_part",
    "part_from_block",
    "part_from_item",
    "parts_of",
]

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*?;base64,(.*)", re.DOTALL)
_UPLOADED = (
    "a file that one provider stores is not there for another",
    "send its content as base64",
)


def parts_of(content: Any) -> list[Body]:
    """A content as a list of parts."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return items_of(content)


def data_url(media_type: str, data: str) -> str:
    """Base64 data as a URL."""
    return f"data:{media_type};base64,{data}"


def _split(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a data URL; None for another URL."""
    found = _DATA_URL.fullmatch(url)
    return (found[1] or "application/octet-stream", found[2]) if found else None


# --- Anthropic's blocks ---------------------------------------------------------------------


def part_from_block(block: Body, where: str) -> list[Body]:
    """A block of messages as parts of a chat message. Raises `TranslationError`."""
    match block.get("type"):
        case "text":
            return [{"type": "text", "text": block["text"]}] if block.get("text") else []
        case "image":
            return [_image_part(block["source"], where)]
        case "document":
            return _document_parts(block, where)
        case "search_result":
            head = f"{block.get('title') or ''} ({block.get('source') or ''})"
            inner = [b.get("text") or "" for b in items_of(block.get("content"))]
            return [{"type": "text", "text": "\n".join([head, *inner])}]
    return refuse(
        f"{where}.type",
        f"a block of type {block.get('type')!r} belongs to Anthropic's own tools",
        "leave it out, or send the call to a model whose dialect is anthropic.messages",
    )


def _image_part(source: Body, where: str) -> Body:
    match source.get("type"):
        case "base64":
            url = data_url(source["media_type"], source["data"])
        case "url":
            url = source["url"]
        case _:
            refuse(f"{where}.source", *_UPLOADED)
    return {"type": "image_url", "image_url": {"url": url}}


def _document_parts(block: Body, where: str) -> list[Body]:
    source = block["source"]
    title = block.get("title") or "document"
    match source.get("type"):
        case "base64":
            kind = source.get("media_type") or "application/pdf"
            name = title if "." in title else f"{title}.{kind.rpartition('/')[2]}"
            file = {"filename": name, "file_data": data_url(kind, source["data"])}
            return [{"type": "file", "file": file}]
        case "text":
            head = f"{title}\n\n" if block.get("title") else ""
            return [{"type": "text", "text": head + source["data"]}]
        case "content":
            inner = parts_of(source["content"])
            return [part for b in inner for part in part_from_block(b, f"{where}.source.content")]
        case "url":
            refuse(
                f"{where}.source.url",
                "a document by URL has no counterpart in chat completions",
                "send its content as base64",
            )
    return refuse(f"{where}.source", *_UPLOADED)


def block_from_part(part: Body, where: str) -> list[Body]:
    """A part of a chat message as blocks of messages; cache marks stay on them.

    Raises `TranslationError`.
    """
    match part.get("type"):
        case "text" | "refusal":
            text = part.get("text") or part.get("refusal") or ""
            # Nothing but white space is refused, and some models say it before a call.
            blocks = [{"type": "text", "text": text}] if text.strip() else []
        case "image_url":
            given = part["image_url"]
            url = given["url"] if isinstance(given, dict) else given
            blocks = [{"type": "image", "source": _image_source(url)}]
        case "file":
            blocks = [_document(part["file"], f"{where}.file")]
        case "input_audio":
            refuse(where, "Anthropic's wire carries no audio", "send a transcript")
        case kind:
            refuse(f"{where}.type", f"{kind!r} has no counterpart", "send text, images or files")
    if blocks and part.get("cache_control"):
        blocks[-1]["cache_control"] = part["cache_control"]
    return blocks


def _image_source(url: str) -> Body:
    data = _split(url)
    if data is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": data[0], "data": data[1]}


def _document(file: Body, where: str) -> Body:
    if not file.get("file_data"):
        refuse(where, *_UPLOADED)
    kind, data = _split(file["file_data"]) or ("application/pdf", file["file_data"])
    source: Body = {"type": "base64", "media_type": kind, "data": data}
    if kind.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": _plain(data, where)}
    elif kind != "application/pdf":
        refuse(where, f"Anthropic's wire carries PDF and text, no {kind}", "convert the file")
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": source, **title}


def _plain(data: str, where: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        refuse(where, "the file says it is text and is not", "send it as what it is")


# --- Responses' items -----------------------------------------------------------------------


def part_from_item(item: Body, where: str) -> list[Body]:
    """A content item of Responses as parts of a chat message. Raises `TranslationError`."""
    match item.get("type"):
        case "input_text" | "output_text" | "text" | "summary_text":
            return [{"type": "text", "text": item["text"]}] if item.get("text") else []
        case "refusal":
            return [{"type": "text", "text": item["refusal"]}]
        case "input_image" if item.get("image_url"):
            detail = {"detail": item["detail"]} if item.get("detail") else {}
            return [{"type": "image_url", "image_url": {"url": item["image_url"], **detail}}]
        case "input_file" if item.get("file_data"):
            file = {k: item[k] for k in ("filename", "file_data") if item.get(k)}
            return [{"type": "file", "file": file}]
        case "input_file" if item.get("file_url"):
            refuse(
                f"{where}.file_url",
                "a file by URL has no counterpart in chat completions",
                "send its content as file_data",
            )
        case "input_image" | "input_file":
            refuse(f"{where}.file_id", *_UPLOADED)
    return refuse(
        f"{where}.type",
        f"{item.get('type')!r} has no counterpart in chat completions",
        "send text, images or files",
    )


def item_from_part(part: Body, where: str, *, output: bool = False) -> list[Body]:
    """A part of a chat message as content items of Responses. Raises `TranslationError`."""
    match part.get("type"):
        case "text" if output:
            return [{"type": "output_text", "text": part["text"], "annotations": []}]
        case "text":
            return [{"type": "input_text", "text": part["text"]}]
        case "refusal":
            return [{"type": "refusal", "refusal": part["refusal"]}]
        case "image_url":
            given = part["image_url"]
            url, detail = (
                (given["url"], given.get("detail")) if isinstance(given, dict) else (given, None)
            )
            return [{"type": "input_image", "image_url": url, "detail": detail or "auto"}]
        case "file" if part["file"].get("file_data"):
            return [{"type": "input_file", **part["file"]}]
        case "file":
            return [{"type": "input_file", "file_id": part["file"]["file_id"]}]
        case "input_audio":
            refuse(where, "the Responses wire carries no audio", "send a transcript")
    return refuse(
        f"{where}.type", f"{part.get('type')!r} has no counterpart", "send text, images or files"
    )
