/// One line that the guest has written to its serial port.
///
/// A line begins with a capital letter and has no other: the rest of a line whose beginning was
/// written on the other side of a migration never reads as a line of its own.
public enum GuestLine: Sendable, Equatable {
  /// `B`: the guest has started from reset.
  case booted
  /// `T` and eight hexadecimal digits: the ticks since reset, from 1 up without a hole.
  case tick(UInt32)
  /// `W`, the disk's digit, eight hexadecimal digits: the disk acknowledged this sector.
  case written(disk: UInt8, sequence: UInt32)
  /// `E`, the disk's digit, eight hexadecimal digits: the disk refused this sector.
  case refused(disk: UInt8, sequence: UInt32)

  /// Reads a line without its end; nil for anything that the guest does not write.
  public init?(_ line: some Collection<UInt8>) {
    let line = Array(line)
    let number = line.count >= 8 ? Self.hexadecimal(line.suffix(8)) : nil
    switch (line.first, line.count, number) {
    case (UInt8(ascii: "B"), 1, _):
      self = .booted
    case (UInt8(ascii: "T"), 9, let count?):
      self = .tick(count)
    case (UInt8(ascii: "W"), 10, let sequence?) where (0x30...0x33).contains(line[1]):
      self = .written(disk: line[1] - 0x30, sequence: sequence)
    case (UInt8(ascii: "E"), 10, let sequence?) where (0x30...0x33).contains(line[1]):
      self = .refused(disk: line[1] - 0x30, sequence: sequence)
    default:
      return nil
    }
  }

  private static func hexadecimal(_ digits: some Collection<UInt8>) -> UInt32? {
    var value: UInt32 = 0
    for digit in digits {
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt32(digit - 0x30)
      case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt32(digit - 0x57)
      default: return nil
      }
    }
    return value
  }
}

/// Cuts the guest's serial output into lines, whatever pieces it arrives in.
public struct GuestLineReader: Sendable {
  /// The longest line that is kept; longer ones come out as unreadable.
  public static let longestLine = 64

  /// The beginning of a line that has not ended yet.
  public private(set) var pending: [UInt8] = []
  /// How many lines were not the guest's.
  public private(set) var unreadableLines = 0
  /// The first of them, as far as it was kept.
  public private(set) var firstUnreadableLine: [UInt8]?

  public init() {}

  /// Takes the next bytes and returns the lines that they complete.
  public mutating func read(_ bytes: some Sequence<UInt8>) -> [GuestLine] {
    var lines: [GuestLine] = []
    for byte in bytes {
      guard byte == UInt8(ascii: "\n") else {
        if pending.count <= Self.longestLine { pending.append(byte) }
        continue
      }
      if let line = GuestLine(pending) {
        lines.append(line)
      } else {
        unreadableLines += 1
        if firstUnreadableLine == nil { firstUnreadableLine = pending }
      }
      pending.removeAll(keepingCapacity: true)
    }
    return lines
  }
}
