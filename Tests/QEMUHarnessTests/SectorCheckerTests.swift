import DemoGuest
import QEMUHarness
import Testing

@Suite("The sector checker")
struct SectorCheckerFindings {
  private static let load = GuestImage.DiskLoad(count: 1, sectors: 8)
  private let directory: TemporaryDirectory
  private let image: DiskImage

  init() throws {
    directory = try TemporaryDirectory()
    image = try DiskImage(
      path: directory.file("disk"), format: .raw, sectors: 32, content: .blockNumbers,
      version: .system72)
  }

  private func write(_ sequences: ClosedRange<UInt32>) throws {
    for sequence in sequences {
      let sector = NumberedSector(disk: 0, sequence: sequence, sectors: Self.load.sectors)
      try image.overwrite(block: sector.block, with: sector.bytes)
    }
  }

  private func acknowledged(_ sequences: ClosedRange<UInt32>) -> [GuestLine] {
    sequences.map { .written(disk: 0, sequence: $0) }
  }

  private func findings(_ lines: [GuestLine]) throws -> [SectorChecker.Finding] {
    try SectorChecker(load: Self.load, lines: lines).findings(disk: 0, image: image)
  }

  @Test("accepts what was acknowledged, and one write more")
  func accepts() throws {
    try write(1...20)
    #expect(try findings(acknowledged(1...20)) == [])
    #expect(try findings(acknowledged(1...19)) == [])
  }

  @Test("accepts writes of before and after a reboot")
  func acceptsReboot() throws {
    try write(1...14)
    try write(1...2)
    #expect(try findings(acknowledged(1...13) + [.booted] + acknowledged(1...2)) == [])
  }

  @Test("accepts either content where a write was refused")
  func acceptsRefusal() throws {
    try write(1...3)
    let lines = acknowledged(1...3) + [.refused(disk: 0, sequence: 4)] + acknowledged(5...5)
    try write(5...5)
    #expect(try findings(lines) == [])
    try write(4...4)
    #expect(try findings(lines) == [])
  }

  @Test("finds a write that was never made")
  func findsMissingWrite() throws {
    try write(1...4)
    #expect(
      try findings(acknowledged(1...5))
        == [.lostWrite(block: 5, acknowledged: 5, found: nil)])
  }

  @Test("finds a write that was undone")
  func findsUndoneWrite() throws {
    try write(1...20)
    try write(11...11)
    #expect(
      try findings(acknowledged(1...20))
        == [.lostWrite(block: 3, acknowledged: 19, found: 11)])
  }

  @Test("finds a write from the future")
  func findsFutureWrite() throws {
    try write(1...6)
    #expect(
      try findings(acknowledged(1...4))
        == [.foreignWrite(block: 6, found: NumberedSector(disk: 0, sequence: 6, block: 6))])
  }

  @Test("finds a write in a wrong place, a torn one, and a foreign change elsewhere")
  func findsDamage() throws {
    try write(1...6)
    let misplaced = NumberedSector(disk: 0, sequence: 2, block: 2)
    try image.overwrite(block: 3, with: misplaced.bytes)
    let (old, new) = (NumberedSector(disk: 0, sequence: 4, block: 4), misplaced)
    try image.overwrite(block: 4, with: Array(old.bytes.prefix(256) + new.bytes.suffix(256)))
    try image.overwrite(block: 20, with: [1])
    #expect(
      try findings(acknowledged(1...6))
        == [.foreignWrite(block: 3, found: misplaced), .damaged(block: 4), .damaged(block: 20)])
  }

  @Test("reads qcow2 as raw")
  func readsQcow2() throws {
    for content in [DiskImage.InitialContent.zeros, .blockNumbers] {
      let image = try DiskImage(
        path: directory.file("disk.qcow2"), format: .qcow2, sectors: 256, content: content,
        version: .backports100)
      let checker = SectorChecker(load: Self.load, lines: [])
      #expect(try checker.findings(disk: 0, image: image) == [])
    }
  }
}
