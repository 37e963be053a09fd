import DemoGuest
import Glibc

/// Compares a disk's content with what the guest says that the disk has acknowledged.
///
/// It takes every line that the guest has written, in order, from both sides of all migrations
/// (`TickReader.lines`). The guest writes one sector of a disk at a time and prints a line before
/// it begins the next, so at the end at most one more may have reached the disk than was printed.
public struct SectorChecker: Sendable {
  /// Something about a disk that must not be.
  public enum Finding: Sendable, Equatable, CustomStringConvertible {
    /// The block holds an older write, or none (nil), where a newer one was acknowledged.
    case lostWrite(block: UInt32, acknowledged: UInt32, found: UInt32?)
    /// The block holds a write that the guest has not made, or not made there, or not so late.
    case foreignWrite(block: UInt32, found: NumberedSector)
    /// The block holds neither a whole write of the guest nor what was there before.
    case damaged(block: UInt32)
    /// The disk's content ends too early or too late.
    case wrongSize(bytes: Int)

    public var description: String {
      switch self {
      case .lostWrite(let block, let acknowledged, let found):
        "block \(block) lost write \(acknowledged) and holds \(found.map(String.init) ?? "none")"
      case .foreignWrite(let block, let found):
        "block \(block) holds write \(found.sequence) of block \(found.block), disk \(found.disk)"
      case .damaged(let block): "block \(block) is damaged"
      case .wrongSize(let bytes): "the disk has \(bytes) bytes"
      }
    }
  }

  /// What one block may hold.
  private struct Block {
    var acknowledged: UInt32?
    /// Writes after that one whose end is not known.
    var possible: Set<UInt32> = []
  }

  private let load: GuestImage.DiskLoad
  private let blocks: [[UInt32: Block]]
  /// How many writes each disk has acknowledged.
  public let acknowledgedWrites: [Int]

  public init(load: GuestImage.DiskLoad, lines: [GuestLine]) {
    var blocks = [[UInt32: Block]](repeating: [:], count: Int(load.count))
    var counts = [Int](repeating: 0, count: Int(load.count))
    var last = [UInt32](repeating: 0, count: Int(load.count))
    func addPossible(_ disk: Int, _ sequence: UInt32) {
      blocks[disk][sequence % load.sectors, default: Block()].possible.insert(sequence)
    }
    for line in lines {
      switch line {
      case .written(let disk, let sequence) where sequence != NumberedSector.faultySequence:
        blocks[Int(disk)][sequence % load.sectors] = Block(acknowledged: sequence)
        counts[Int(disk)] += 1
        last[Int(disk)] = sequence
      case .refused(let disk, let sequence) where sequence != NumberedSector.faultySequence:
        addPossible(Int(disk), sequence)
        last[Int(disk)] = sequence
      case .booted:
        for disk in last.indices where last[disk] != 0 {
          addPossible(disk, last[disk] &+ 1)
          last[disk] = 0
        }
      case .written, .refused, .tick: break
      }
    }
    for disk in last.indices { addPossible(disk, last[disk] &+ 1) }
    self.load = load
    self.blocks = blocks
    acknowledgedWrites = counts
  }

  /// Everything that is wrong with a disk, in the order of blocks.
  ///
  /// The block of `GuestCommand.writeFaultySector` is not looked at.
  public func findings(disk: Int, image: DiskImage) throws -> [Finding] {
    let content = try image.content()
    guard content.count == image.sectors * NumberedSector.size else {
      return [.wrongSize(bytes: content.count)]
    }
    return (0..<image.sectors).compactMap { block in
      if block == Int(NumberedSector.faultyBlock) { return nil }
      let start = block * NumberedSector.size
      let initial = image.initialSector(block: block)
      return finding(
        disk, UInt32(block), content[start..<start + NumberedSector.size], initial)
    }
  }

  private func finding(
    _ disk: Int, _ block: UInt32, _ bytes: ArraySlice<UInt8>, _ initial: [UInt8]
  ) -> Finding? {
    let expected = blocks[disk][block] ?? Block()
    if areEqual(bytes, initial[...]) {
      return expected.acknowledged.map {
        .lostWrite(block: block, acknowledged: $0, found: nil)
      }
    }
    guard let sector = NumberedSector(bytes: bytes) else { return .damaged(block: block) }
    guard sector.disk == UInt8(disk), sector.block == block,
      sector.sequence % load.sectors == block
    else { return .foreignWrite(block: block, found: sector) }
    if sector.sequence == expected.acknowledged || expected.possible.contains(sector.sequence) {
      return nil
    }
    if let acknowledged = expected.acknowledged, sector.sequence < acknowledged {
      return .lostWrite(block: block, acknowledged: acknowledged, found: sector.sequence)
    }
    return .foreignWrite(block: block, found: sector)
  }
}

/// Compares fast, also in a build without optimization.
private func areEqual(_ left: ArraySlice<UInt8>, _ right: ArraySlice<UInt8>) -> Bool {
  left.withUnsafeBytes { left in
    right.withUnsafeBytes { right in
      guard left.count == right.count else { return false }
      guard let first = left.baseAddress, let second = right.baseAddress else { return true }
      return memcmp(first, second, left.count) == 0
    }
  }
}
