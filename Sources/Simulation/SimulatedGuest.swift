/// The guest's own memory: it travels with the migration, and it knows which of its writes were
/// acknowledged.
public struct SimulatedGuest: Sendable {
  /// What a guest may do by itself while it runs.
  public enum Act: Hashable, Sendable, CaseIterable {
    case powerOff, reboot, panic, inputOutputError
  }

  /// A write on its way: numbers never repeat, so that a lost or a stale write shows.
  struct Write: Hashable, Sendable {
    var number: UInt64
    var disk: Int
    var sector: Int
  }

  /// The number of the last write that was begun.
  public private(set) var lastNumber: UInt64 = 0
  /// For each disk of the machine, in order, what every sector must hold: the last write that was
  /// acknowledged, or a later one.
  public private(set) var acknowledged: [[UInt64]]

  init(diskSizes: [Int]) {
    acknowledged = diskSizes.map { [UInt64](repeating: 0, count: $0) }
  }

  /// Begins a write somewhere.
  mutating func beginWrite(_ random: inout RandomSource) -> Write? {
    guard !acknowledged.isEmpty else { return nil }
    let disk = Int(random.below(UInt64(acknowledged.count)))
    guard !acknowledged[disk].isEmpty else { return nil }
    lastNumber += 1
    return Write(
      number: lastNumber, disk: disk,
      sector: Int(random.below(UInt64(acknowledged[disk].count))))
  }

  mutating func acknowledge(_ write: Write) {
    acknowledged[write.disk][write.sector] = max(
      acknowledged[write.disk][write.sector], write.number)
  }
}
