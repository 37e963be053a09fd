/// Reads the fields of an SSH message (RFC 4251, section 5) from bytes that may be anything.
///
/// It copies only what is asked for, so that it can walk past a secret.
struct WireReader<Bytes: RandomAccessCollection<UInt8>> where Bytes.SubSequence == Bytes {
  private var rest: Bytes

  init(_ bytes: Bytes) { rest = bytes }

  var isAtEnd: Bool { rest.isEmpty }

  /// The next byte; nil at the end.
  mutating func byte() -> UInt8? { rest.popFirst() }

  /// The next 32-bit number; nil if it is cut short.
  mutating func number() -> UInt32? {
    guard rest.count >= 4 else { return nil }
    defer { rest.removeFirst(4) }
    return rest.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// The next string of bytes; nil if its length points past the end.
  mutating func string() -> [UInt8]? {
    guard let count = number(), rest.count >= Int(count) else { return nil }
    defer { rest.removeFirst(Int(count)) }
    return Array(rest.prefix(Int(count)))
  }

  /// Whether the next bytes are exactly `expected`; steps over them if so.
  mutating func skip(_ expected: [UInt8]) -> Bool {
    guard rest.count >= expected.count, rest.prefix(expected.count).elementsEqual(expected) else {
      return false
    }
    rest.removeFirst(expected.count)
    return true
  }

  /// The next string, as text.
  mutating func text() -> String? { string().map { String(decoding: $0, as: UTF8.self) } }
}

extension WireReader where Bytes == ArraySlice<UInt8> {
  init(_ bytes: [UInt8]) { self.init(bytes[...]) }
}

/// Writes the fields of an SSH message.
struct WireWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append(byte: UInt8) { bytes.append(byte) }

  mutating func append(number: UInt32) {
    for shift in [24, 16, 8, 0] as [UInt32] {
      bytes.append(UInt8(truncatingIfNeeded: number >> shift))
    }
  }

  /// Longer than 4 GiB does not occur: callers bound what they put in.
  mutating func append(string: some Collection<UInt8>) {
    append(number: UInt32(clamping: string.count))
    bytes += string
  }
}
