/** An open file, wherever it is. */
export interface OpenFile {
  readonly size: number;
  /** Fills the beginning of `into` from `position` on; how many bytes, 0 where the file ends. */
  read(position: number, into: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

/** Where files are by path: a disk, or servers. Errors: InputError with the path. */
export interface Storage {
  /** Whether it knows what is in a folder; else `namesIn` gives none. */
  readonly lists: boolean;
  dirname(path: string): string;
  basename(path: string): string;
  join(folder: string, name: string): string;
  isFolder(path: string): Promise<boolean>;
  /** Sorted. */
  namesIn(folder: string): Promise<readonly string[]>;
  open(path: string): Promise<OpenFile>;
}
