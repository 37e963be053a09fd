import MigrationEngine

/// Everything that happened in a simulated world, as one hash; as text too where it is wanted.
///
/// The hash is FNV-1a over time, place and content of every happening: two runs of one seed must
/// agree in it.
public struct SimulationLog: Sendable {
  /// Lines that are kept at most.
  static let maximumLines = 200_000

  public private(set) var hash: UInt64 = 0xCBF2_9CE4_8422_2325
  /// Kept only when the log was made verbose.
  public private(set) var lines: [String] = []
  let isVerbose: Bool

  init(isVerbose: Bool) { self.isVerbose = isVerbose }

  mutating func note(
    _ place: StaticString, at time: MonotonicInstant, bytes: [UInt8],
    _ text: () -> String
  ) {
    mix(time, place)
    for byte in bytes { mix(byte) }
    keep(place, time, text)
  }

  mutating func note(
    _ place: StaticString, at time: MonotonicInstant, number: UInt64 = 0,
    _ text: () -> String
  ) {
    mix(time, place)
    mix(number)
    keep(place, time, text)
  }

  private func seconds(_ time: MonotonicInstant) -> String {
    let microseconds = time.nanoseconds / 1_000
    let fraction = String(microseconds % 1_000_000)
    return "\(microseconds / 1_000_000)." + String(repeating: "0", count: 6 - fraction.count)
      + fraction
  }

  private mutating func keep(
    _ place: StaticString, _ time: MonotonicInstant, _ text: () -> String
  ) {
    guard isVerbose, lines.count < Self.maximumLines else { return }
    lines.append("\(seconds(time)) \(place): \(text())")
  }

  private mutating func mix(_ time: MonotonicInstant, _ place: StaticString) {
    mix(UInt64(bitPattern: time.nanoseconds))
    place.withUTF8Buffer { for byte in $0 { mix(byte) } }
  }

  private mutating func mix(_ number: UInt64) {
    var rest = number
    for _ in 0..<8 {
      mix(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
  }

  private mutating func mix(_ byte: UInt8) {
    hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
  }
}
