// WAV files of 32 bit floats, as the server makes them: one Float32Array for each channel.

const FLOAT = 3;

export function parseWav(bytes) {
  const view = new DataView(bytes);
  const name = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
  let channels = 0;
  for (let at = 12; at + 8 <= bytes.byteLength; ) {
    const size = view.getUint32(at + 4, true), body = at + 8;
    if (name(at) === "fmt ") {
      if (view.getUint16(body, true) !== FLOAT) throw new Error("a clip that is no WAV file of floats");
      channels = view.getUint16(body + 2, true);
    } else if (name(at) === "data" && channels) {
      return parted(new Float32Array(bytes.slice(body, body + size)), channels);
    }
    at = body + size + (size % 2);
  }
  throw new Error("a clip without samples");
}

function parted(mixed, channels) {
  return Array.from({ length: channels }, (_, channel) => {
    const part = new Float32Array(mixed.length / channels);
    for (let i = 0, j = channel; i < part.length; i++, j += channels) part[i] = mixed[j];
    return part;
  });
}
