// What happens when a group of locks on the map is chosen.

import { WORLD } from "./canvas_layer.js";

/** Pixels that locks have to be apart at the closest zoom for the map to zoom in on them. */
const APART = 84;
/** The part of the map that the locks of a group fill after zooming in. */
const FILLED = 0.8;

/** The zoom at which a group is seen apart, or null if it never is: its locks share a place. */
export function zoomFor([west, north, east, south], { width, height, zoom, most }) {
  const [wide, high] = [east - west, south - north];
  if (zoom >= most || Math.max(wide, high) * WORLD * 2 ** most < APART) return null;
  const fits = Math.min((width * FILLED) / wide, (height * FILLED) / high) / WORLD;
  return Math.min(most, Math.max(zoom + 1, Math.floor(Math.log2(fits))));
}

/** Zoom in on a group of locks, or open the popup of one lock, or of locks that share a place. */
export function showGroup(L, map, popup, since, { group, keyboard }) {
  const { x: width, y: height } = map.getSize();
  const box = group.box;
  const most = map.getMaxZoom();
  const zoom = group.members.length > 1 ? zoomFor(box, { width, height, zoom: map.getZoom(), most }) : null;
  const [west, north, east, south] = box;
  const middle = placeAt(L, map, (west + east) / 2, (north + south) / 2);
  if (zoom === null) popup.open(group, middle, since, keyboard);
  else map.setView(middle, zoom);
}

/** A place on the map whose width is 1, in the copy of the world that is nearest to the middle of the map. */
function placeAt(L, map, x, y) {
  const { lat, lng } = map.unproject(L.point(x * WORLD, y * WORLD), 0);
  return L.latLng(lat, lng + 360 * Math.round((map.getCenter().lng - lng) / 360));
}
