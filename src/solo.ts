/**
 * A command that was lost twice may be what kills the process that runs it. So it runs with nothing else leased by its
 * process: a neighbour would be lost with it, and be suspected in turn. The process is what is shared, not a worker or
 * an orchestrator, hence the one module-wide state of this library.
 */

/** A worker, as far as its process is concerned. */
export interface Resident {
  /** How many leases it holds. */
  held(): number;
  /** Something changed: look again. */
  wake(): void;
}

const residents = new Set<Resident>();
let soloist: Resident | undefined;

/** Counts a worker among those of the process; the result takes it out. */
export function moveIn(resident: Resident): () => void {
  residents.add(resident);
  return () => {
    residents.delete(resident);
    leaveSolo(resident);
  };
}

/** Claims the process for one command of `resident`; false while another one has it. */
export function enterSolo(resident: Resident): boolean {
  if (soloist && soloist !== resident) return false;
  soloist = resident;
  return true;
}

/** Gives the process back. */
export function leaveSolo(resident: Resident): void {
  if (soloist !== resident) return;
  soloist = undefined;
  for (const other of residents) other.wake();
}

/** Whether somebody else's command has the process: nothing may be claimed or started. */
export function isSoloOfAnother(resident: Resident): boolean {
  return soloist !== undefined && soloist !== resident;
}

/** How many leases the process holds. */
export function heldByProcess(): number {
  let held = 0;
  for (const resident of residents) held += resident.held();
  return held;
}

/** A lease ended: whoever waits for the process to be empty looks again. */
export function leaseEnded(): void {
  soloist?.wake();
}
