/// One sector as the guest writes it: 32 times a mark, its sequence number, its block and a check.
public struct NumberedSector: Sendable, Equatable {
  /// The size of a sector in bytes.
  public static let size = 512
  /// The block that `GuestCommand.writeFaultySector` writes to; such a disk has at least 32 MiB.
  public static let faultyBlock: UInt32 = 0xffff
  /// The sequence number of every write to `faultyBlock`, which no other write has.
  public static let faultySequence: UInt32 = 0

  /// The disk's number, 0 to 3.
  public var disk: UInt8
  /// The number of this write; counts from 1 for each disk.
  public var sequence: UInt32
  /// The logical block address that the guest wrote to.
  public var block: UInt32

  public init(disk: UInt8, sequence: UInt32, block: UInt32) {
    self.disk = disk
    self.sequence = sequence
    self.block = block
  }

  /// The sector that a write of this sequence number makes, with so many sectors in turn.
  public init(disk: UInt8, sequence: UInt32, sectors: UInt32) {
    self.init(disk: disk, sequence: sequence, block: sequence % sectors)
  }

  /// Reads a sector; nil if it is not wholly one write of the guest.
  public init?(bytes: some Collection<UInt8>) {
    let bytes = Array(bytes)
    guard bytes.count == Self.size else { return nil }
    let words = stride(from: 0, to: 16, by: 4).map { offset in
      (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) }
    }
    guard let disk = (0..<4).first(where: { Self.mark(disk: $0) == words[0] }) else { return nil }
    self.init(disk: disk, sequence: words[1], block: words[2])
    guard bytes == self.bytes else { return nil }
  }

  /// The sector's 512 bytes.
  public var bytes: [UInt8] {
    let words = [Self.mark(disk: disk), sequence, block, ~sequence]
    let unit = words.flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) }
    }
    return (0..<Self.size / unit.count).flatMap { _ in unit }
  }

  /// "SEC" and the disk's digit, as a little-endian word.
  static func mark(disk: UInt8) -> UInt32 {
    0x3043_4553 + UInt32(disk) << 24
  }
}
