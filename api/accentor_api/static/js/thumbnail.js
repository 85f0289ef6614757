const SIDE = 192;
const QUALITY = 0.7;

export function thumbnail(image) {
  const scale = SIDE / Math.min(image.naturalWidth, image.naturalHeight);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
  canvas.getContext("2d").drawImage(image, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  try {
    return canvas.toDataURL("image/webp", QUALITY);
  } catch (error) {
    if (error.name === "SecurityError") return null;
    throw error;
  }
}
