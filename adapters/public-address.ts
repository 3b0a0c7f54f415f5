/**
 * Which addresses are public: those that anybody on the internet may have. All others (this machine, private networks,
 * link-local ones with the metadata services of clouds, carriers' networks, multicast, documentation, …) are what a call to a
 * URL from elsewhere must not reach. The ranges are those of IANA's special-purpose registries; of IPv6 what is not within
 * 2000::/3 is not public, whatever it will be.
 */

/** A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address. */
export interface AddressRange {
  readonly bytes: readonly number[];
  readonly bits: number;
}

/** Of IPv4. 168.63.129.16 is public by its number, but a machine's own metadata service on Azure. */
const private4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "168.63.129.16",
].map(rangeOf);

const public6 = rangeOf("2000::/3");
/** Within that: protocols and tunnels (Teredo, 6to4), documentation. */
const private6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"].map(rangeOf);
/** An IPv4 address in the last four bytes: mapped, and as NAT64 translates it. */
const embedding6 = ["::ffff:0:0/96", "64:ff9b::/96"].map(rangeOf);

/** Whether an address, IPv4 or IPv6, is public. What is no address is not. */
export function isPublicAddress(address: string): boolean {
  const bytes = bytesOf(address);
  if (bytes === undefined) return false;
  if (bytes.length === 4) return !private4.some((range) => contains(range, bytes));
  return contains(public6, bytes) && !private6.some((range) => contains(range, bytes));
}

/** Whether an address lies in one of the ranges. */
export function isWithin(ranges: readonly AddressRange[], address: string): boolean {
  const bytes = bytesOf(address);
  return bytes !== undefined && ranges.some((range) => contains(range, bytes));
}

/** @throws TypeError for what is no range. */
export function rangeOf(text: string): AddressRange {
  if (typeof text !== "string") throw new TypeError("Cannot read range of addresses: it must be a string");
  const [address, length, ...others] = text.split("/") as [string, string | undefined];
  const bytes = bytesOf(address, true);
  const bits = length === undefined ? (bytes?.length ?? 0) * 8 : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (bytes === undefined || others.length > 0 || bits < 0 || bits > bytes.length * 8) {
    throw new TypeError(
      `Cannot read range of addresses: "${text.slice(0, 60)}" is none: write 10.1.0.0/16, fd00::/8 or one address`,
    );
  }
  return { bytes, bits };
}

function contains({ bytes, bits }: AddressRange, address: readonly number[]): boolean {
  if (bytes.length !== address.length) return false;
  return address.every((byte, index) => {
    const wanted = Math.min(Math.max(bits - index * 8, 0), 8);
    return byte >> (8 - wanted) === (bytes[index] as number) >> (8 - wanted);
  });
}

/** Four or sixteen bytes; of an IPv6 address that stands for one of IPv4 its four, unless it is taken `literally`. */
function bytesOf(address: string, literally = false): readonly number[] | undefined {
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(address)) {
    const bytes = address.split(".").map(Number);
    return bytes.every((byte) => byte <= 255) ? bytes : undefined;
  }
  if (!/^[\da-f:.]{2,45}$/i.test(address) || !address.includes(":")) return undefined;
  let host: string;
  try {
    // The URL parser writes the last four bytes in hexadecimal, too.
    host = new URL(`http://[${address}]`).hostname.slice(1, -1);
  } catch {
    return undefined;
  }
  const [head = "", tail] = host.split("::");
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const [first, last] = [groups(head), groups(tail ?? "")];
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => "0");
  const bytes = [...first, ...zeros, ...last].flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
  return !literally && embedding6.some((range) => contains(range, bytes)) ? bytes.slice(12) : bytes;
}
