import { read } from "./api.js";
import { find, replaceRows, show } from "./dom.js";
import { tell } from "./notices.js";
import { polled } from "./polling.js";

const PAGE = 25;
const LARGEST_PAGE = 1000;

export function listing(address, names, row) {
  let wanted = PAGE;

  async function draw() {
    const page = await read(`${address}?limit=${wanted}`);
    replaceRows(find(names.rows), page.data.map(row));
    show(find(names.empty), page.data.length === 0);
    show(find(names.table), page.data.length > 0);
    show(find(names.more), page.next_cursor !== null && wanted < LARGEST_PAGE);
  }

  const list = polled(draw);

  return {
    open() {
      wanted = PAGE;
      return list.open();
    },
    close: list.close,
    begin() {
      find(names.more).addEventListener("click", () => {
        wanted = Math.min(wanted * 2, LARGEST_PAGE);
        draw().catch(tell);
      });
    },
  };
}
