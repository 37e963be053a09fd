import MigrationEngine

/// The disks of a simulated world: numbered sectors, and the lock that an image file has.
///
/// Both QEMUs of a world hold the same one. A sector holds the number of the last write to it; 0 means never written.
public final class SimulatedStorage {
  public struct Disk: Sendable {
    public var sectors: [UInt64]
    /// Whether its QEMU locks it, as files are locked; rbd, iscsi and plain devices are not.
    public var hasLock: Bool
    /// The QEMU that holds the lock.
    public var lockHolder: Side?
  }

  public private(set) var disks: [Disk] = []

  public init() {}

  /// Adds a disk; answers with its index.
  public func add(sectors: Int, hasLock: Bool) -> Int {
    disks.append(Disk(sectors: [UInt64](repeating: 0, count: sectors), hasLock: hasLock))
    return disks.count - 1
  }

  /// Takes the lock; false when another QEMU holds it.
  func lock(_ disk: Int, for side: Side) -> Bool {
    guard disks[disk].hasLock else { return true }
    if let holder = disks[disk].lockHolder, holder != side { return false }
    disks[disk].lockHolder = side
    return true
  }

  func unlock(_ disk: Int, by side: Side) {
    if disks[disk].lockHolder == side { disks[disk].lockHolder = nil }
  }

  func write(_ number: UInt64, to sector: Int, of disk: Int) {
    disks[disk].sectors[sector] = number
  }

  func read(_ sector: Int, of disk: Int) -> UInt64 { disks[disk].sectors[sector] }
}
