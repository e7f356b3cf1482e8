// A drawn person in front of the camera, a voice, and a slide to share: for pictures that look like a
// meeting. Runs inside the page, before its own script; `look` says who it is.
export function costume(look) {
  const { skin, hair, shirt, wall, style, speaks } = look;
  const draw = (context, width, height, time) => {
    const at = (x, y) => [x * width, y * height];
    const blob = (x, y, rx, ry, colour) => {
      context.fillStyle = colour;
      context.beginPath();
      context.ellipse(...at(x, y), rx * height, ry * height, 0, 0, 7);
      context.fill();
    };
    const room = context.createLinearGradient(0, 0, width, height);
    room.addColorStop(0, wall[0]);
    room.addColorStop(1, wall[1]);
    context.fillStyle = room;
    context.fillRect(0, 0, width, height);
    // A shelf, a plant or a window behind.
    context.globalAlpha = 0.35;
    if (style % 3 === 0) {
      context.fillStyle = '#fff';
      context.fillRect(...at(0.06, 0.1), 0.22 * width, 0.46 * height);
      context.fillStyle = wall[1];
      context.fillRect(...at(0.165, 0.1), 0.008 * width, 0.46 * height);
    } else if (style % 3 === 1) {
      context.fillStyle = '#3a2f2a';
      for (const y of [0.24, 0.52]) context.fillRect(...at(0.72, y), 0.24 * width, 0.016 * height);
      ['#d98', '#8ab', '#cb7', '#798', '#c77', '#89c'].forEach((colour, index) => {
        context.fillStyle = colour;
        const tall = 0.1 + 0.02 * ((index * 7) % 4);
        context.fillRect(...at(0.735 + 0.028 * index, 0.24 - tall), 0.022 * width, tall * height);
        context.fillRect(...at(0.76 + 0.028 * index, 0.52 - tall), 0.022 * width, tall * height);
      });
    } else {
      for (let leaf = 0; leaf < 7; leaf++) {
        context.save();
        context.translate(...at(0.14, 0.72));
        context.rotate(-1.3 + leaf * 0.42);
        context.fillStyle = leaf % 2 ? '#4f8a5b' : '#3b7048';
        context.beginPath();
        context.ellipse(0, -0.2 * height, 0.035 * height, 0.17 * height, 0, 0, 7);
        context.fill();
        context.restore();
      }
    }
    context.globalAlpha = 1;
    const sway = Math.sin(time / 900 + style) * 0.006;
    const nod = Math.sin(time / 700 + style * 2) * 0.006;
    const x = 0.5 + sway;
    const y = 0.47 + nod;
    if (style % 2) blob(x, y + 0.1, 0.25, 0.34, hair);
    context.fillStyle = shirt;
    context.beginPath();
    context.ellipse(...at(x, 1.1), 0.44 * height, 0.36 * height, 0, 0, 7);
    context.fill();
    context.fillStyle = skin[1];
    context.beginPath();
    context.roundRect((x * width) - 0.075 * height, 0.6 * height, 0.15 * height, 0.22 * height, 0.06 * height);
    context.fill();
    blob(x, y, 0.175, 0.22, skin[0]);
    // Hair.
    context.fillStyle = hair;
    context.beginPath();
    context.ellipse(...at(x, y - 0.095), 0.188 * height, 0.15 * height, 0, Math.PI, 0);
    context.fill();
    context.beginPath();
    context.ellipse(...at(x, y - 0.1), 0.186 * height, (style % 2 ? 0.05 : 0.028) * height, 0, 0, 7);
    context.fill();
    if (style % 2 === 0) for (const side of [-1, 1]) blob(x + (side * 0.172 * height) / width, y - 0.05, 0.02, 0.06, hair);
    const blink = (time / 1000 + style * 1.3) % 3.6 < 0.13;
    for (const side of [-1, 1]) {
      const eye = x + (side * 0.068 * height) / width;
      blob(eye, y + 0.01, 0.017, blink ? 0.003 : 0.02, '#2a2320');
      context.strokeStyle = hair;
      context.lineWidth = 0.011 * height;
      context.beginPath();
      context.arc(...at(eye, y - 0.008), 0.042 * height, -2.4, -0.75);
      context.stroke();
      if (style % 4 === 2) {
        context.strokeStyle = '#26262b';
        context.lineWidth = 0.009 * height;
        context.beginPath();
        context.arc(...at(eye, y + 0.012), 0.052 * height, 0, 7);
        context.stroke();
      }
    }
    const open = speaks ? 0.008 + 0.026 * Math.abs(Math.sin(time / 95) * Math.sin(time / 410)) : 0.006;
    if (speaks) blob(x, y + 0.115, 0.045, open, '#7a3138');
    else {
      context.strokeStyle = '#8d4a44';
      context.lineWidth = 0.012 * height;
      context.lineCap = 'round';
      context.beginPath();
      context.arc(...at(x, y + 0.06), 0.062 * height, 0.65, 2.5);
      context.stroke();
    }
    context.strokeStyle = skin[1];
    context.lineWidth = 0.013 * height;
    context.beginPath();
    context.arc(...at(x, y + 0.045), 0.022 * height, 0.3, 2.8);
    context.stroke();
    // The light of the room.
    const light = context.createRadialGradient(...at(0.5, 0.4), 0.1 * height, ...at(0.5, 0.5), 0.9 * height);
    light.addColorStop(0, 'rgba(255,255,255,.07)');
    light.addColorStop(1, 'rgba(0,0,0,.3)');
    context.fillStyle = light;
    context.fillRect(0, 0, width, height);
  };

  const slide = (context, width, height, time) => {
    context.fillStyle = '#fbfaf7';
    context.fillRect(0, 0, width, height);
    context.fillStyle = '#22222a';
    context.font = `650 ${height * 0.07}px "Inter Variable", sans-serif`;
    context.fillText('Books lent by our library', width * 0.07, height * 0.17);
    context.font = `400 ${height * 0.034}px "Inter Variable", sans-serif`;
    context.fillStyle = '#77777f';
    context.fillText('Each month since the reading room was painted', width * 0.07, height * 0.235);
    const values = [64, 71, 90, 84, 97, 112, 121, 118, 139, 152];
    values.forEach((value, index) => {
      const tall = (value / 165) * height * 0.55;
      context.fillStyle = index === values.length - 1 ? '#6d67f0' : '#d9d6f5';
      context.beginPath();
      context.roundRect(width * (0.075 + index * 0.086), height * 0.88 - tall, width * 0.058, tall, 8);
      context.fill();
      context.fillStyle = '#55555e';
      context.fillText(String(value), width * (0.084 + index * 0.086), height * 0.93);
    });
    context.fillStyle = '#6d67f0';
    context.beginPath();
    context.arc(width * (0.86 + 0.01 * Math.sin(time / 600)), height * 0.55, 7, 0, 7);
    context.fill();
  };

  const film = (width, height, paint) => {
    const canvas = document.createElement('canvas');
    Object.assign(canvas, { width, height });
    const context = canvas.getContext('2d');
    const next = () => paint(context, width, height, performance.now());
    next();
    setInterval(next, 66);
    return canvas.captureStream(15).getVideoTracks()[0];
  };
  const voice = () => {
    const context = new AudioContext();
    const out = context.createMediaStreamDestination();
    const tone = context.createOscillator();
    const gain = context.createGain();
    tone.type = 'sawtooth';
    tone.frequency.value = 120 + style * 23;
    gain.gain.value = 0;
    tone.connect(gain).connect(out);
    tone.start();
    if (speaks) setInterval(() => gain.gain.setTargetAtTime(Math.random() * 0.35, context.currentTime, 0.04), 110);
    return out.stream.getAudioTracks()[0];
  };
  const media = navigator.mediaDevices;
  media.getUserMedia = async (wanted) => new MediaStream([
    ...(wanted.video ? [film(1280, 720, draw)] : []), ...(wanted.audio ? [voice()] : []),
  ]);
  media.getDisplayMedia = async () => new MediaStream([film(1920, 1080, slide)]);
  const device = (kind, deviceId, label) => ({ kind, deviceId, label, groupId: '1', toJSON: () => ({}) });
  media.enumerateDevices = async () => [
    device('audioinput', 'default', 'Built-in microphone'), device('audioinput', 'desk', 'Desk microphone'),
    device('videoinput', 'default', 'Built-in camera'), device('audiooutput', 'default', 'Built-in speakers'),
  ];
}

export const CAST = {
  'Ada Lovelace': { skin: ['#f0c8a8', '#dcae8c'], hair: '#4a2f25', shirt: '#5a55c9', wall: ['#e6ddd0', '#b9a994'], style: 1, speaks: false },
  'Grace Hopper': { skin: ['#e9b995', '#d19f7b'], hair: '#8a8580', shirt: '#2d5f73', wall: ['#cfe0de', '#86a5a5'], style: 2, speaks: true },
  'Alan Turing': { skin: ['#f2d0b4', '#dbb292'], hair: '#2f241f', shirt: '#8a4b3c', wall: ['#dcd7ea', '#9d93bd'], style: 0, speaks: false },
  'Katherine Johnson': { skin: ['#9b6a4b', '#835638'], hair: '#241c1a', shirt: '#d2904a', wall: ['#f1d9b8', '#c79a68'], style: 7, speaks: false },
  'Mae Jemison': { skin: ['#7c5138', '#68422c'], hair: '#1d1716', shirt: '#c34f5e', wall: ['#cfdcec', '#7f9cc0'], style: 5, speaks: false },
  'Chien-Shiung Wu': { skin: ['#efcda5', '#d9b288'], hair: '#17161a', shirt: '#3f7d57', wall: ['#e3e9d6', '#a3b38a'], style: 3, speaks: false },
  'Lynn Conway': { skin: ['#f1cdb0', '#dab091'], hair: '#b07a45', shirt: '#477a8f', wall: ['#e9e2d8', '#b9ab9c'], style: 5, speaks: true },
  'Annie Easley': { skin: ['#8d5f43', '#764c33'], hair: '#2b211e', shirt: '#6a6f7a', wall: ['#ecd3d3', '#b88a8f'], style: 11, speaks: false },
};
