// Lets pages written before 2017 run in browsers of today. Load it before the page's own scripts:
// <script src="https://YOUR-SERVER/legacy-shim.js"></script>
//
// URL.createObjectURL(stream) gives a token, and a media element whose src is set to the token plays
// the stream.
(() => {
  const streams = new Map();
  const createObjectURL = URL.createObjectURL.bind(URL);
  URL.createObjectURL = (object) => {
    if (!(object instanceof MediaStream)) return createObjectURL(object);
    const token = `mediastream:${object.id}`;
    streams.set(token, object);
    return token;
  };
  const src = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'src');
  Object.defineProperty(HTMLMediaElement.prototype, 'src', {
    ...src,
    set(value) {
      const stream = streams.get(String(value));
      if (stream) this.srcObject = stream;
      else src.set.call(this, value);
    },
  });
  const setAttribute = Element.prototype.setAttribute;
  HTMLMediaElement.prototype.setAttribute = function (name, value) {
    if (name.toLowerCase() === 'src' && streams.has(String(value))) this.src = value;
    else setAttribute.call(this, name, value);
  };
})();
