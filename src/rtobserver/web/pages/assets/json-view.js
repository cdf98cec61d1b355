// Writes JSON so that people can read it, without decoding it: what was recorded stays as it was, but for spaces.

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const LONGEST_COLOURED = 300_000;
/** Letters that are not seen and turn or hide others; as escapes they are the same JSON. */
const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Give the lines of a JSON text as elements, with a class for each sort of token. */
export function jsonView(raw) {
  const view = document.createDocumentFragment();
  if (raw.length > LONGEST_COLOURED) {
    view.append(visible(raw));
    return view;
  }
  for (const { text, kind } of tokens(raw)) {
    if (!kind) {
      view.append(text);
      continue;
    }
    const made = document.createElement("span");
    made.className = `json-${kind}`;
    made.textContent = visible(text);
    view.append(made);
  }
  return view;
}

/** Show bytes that are no JSON: their text as far as they have one. */
export function bytesView(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.codePointAt(0));
  const lines = [];
  for (let start = 0; start < Math.min(bytes.length, 4096); start += 16) {
    const row = [...bytes.slice(start, start + 16)];
    const numbers = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCodePoint(byte) : ".")).join("");
    lines.push(`${start.toString(16).padStart(6, "0")}  ${numbers.padEnd(47)}  ${letters}`);
  }
  if (bytes.length > 4096) lines.push(`… ${bytes.length - 4096} bytes more`);
  return { count: bytes.length, text: lines.join("\n") };
}

function* tokens(raw) {
  const found = raw.match(TOKEN) ?? [];
  let depth = 0;
  for (const [index, token] of found.entries()) {
    const next = found[index + 1];
    switch (token) {
      case "{":
      case "[":
        depth += 1;
        // what is empty stays on its line
        yield { text: next === "}" || next === "]" ? token : `${token}${newLine(depth)}` };
        break;
      case "}":
      case "]":
        depth = Math.max(0, depth - 1);
        yield { text: "{[".includes(found[index - 1]) ? token : `${newLine(depth)}${token}` };
        break;
      case ",":
        yield { text: `,${newLine(depth)}` };
        break;
      case ":":
        yield { text: ": " };
        break;
      default:
        yield { text: token, kind: kindOf(token, next) };
    }
  }
}

function kindOf(token, next) {
  if (token.startsWith('"')) return next === ":" ? "key" : "text";
  return /^-?\d/.test(token) ? "number" : "word";
}

function newLine(depth) {
  return `\n${"  ".repeat(depth)}`;
}

/** Write letters that are not seen as escapes. */
export function visible(text) {
  return text.replace(UNSEEN, (letter) => `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}`);
}
