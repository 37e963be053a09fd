import CSwitchover
import Testing

@testable import CLI

@Suite("Progress line")
struct ProgressLineTests {
  @Test func aWideLineHasEverything() {
    var style = Style()
    style.width = 120
    let line = ProgressLine.text(.transferring, style)
    #expect(
      line
        == "transferring ▕████████████████████████        ▏ 75 %  64.0 MiB left  118 MiB/s  "
        + "blackout ≈ 14 ms  pass 2")
  }

  @Test func withoutUnicodeThereIsASCIIOnly() {
    var style = Style()
    style.hasUnicode = false
    let line = ProgressLine.text(.transferring, style)
    #expect(line.utf8.allSatisfy { $0 < 0x80 })
    #expect(line.contains("[#") && line.contains("blackout ~ 14 ms"))
  }

  @Test("whatever the width, the line fits and never wraps", arguments: 1...140)
  func everyWidth(width: Int) {
    var style = Style()
    style.width = width
    let line = ProgressLine.text(.transferring, style)
    #expect(line.count < max(width, 2), "\(line)")
    if width >= 40 { #expect(line.contains("75 %")) }
  }

  @Test func colorsTakeNoColumn() {
    var (plain, colored) = (Style(), Style())
    colored.hasColor = true
    plain.width = 90
    colored.width = 90
    let text = ProgressLine.text(.transferring, colored)
    let bare = text.replacing(#/\u{1b}\[\d+m/#, with: "")
    #expect(text != bare)
    #expect(bare == ProgressLine.text(.transferring, plain))
  }

  @Test func disksHaveTheBarBeforeMemoryTravels() {
    #expect(
      ProgressLine.text(.mirroring, Style())
        == "mirroring ▕█████████████             ▏ 50 %  96.0 MiB left  1 of 2 disks copied")
    var one = MigrationSnapshot.mirroring
    one.disks.removeFirst()
    #expect(ProgressLine.facts(one, Style()) == ["96.0 MiB left"])
  }

  @Test func disksStandBesideMemory() {
    var snapshot = MigrationSnapshot.transferring
    snapshot.disks = MigrationSnapshot.mirroring.disks
    #expect(ProgressLine.facts(snapshot, Style()).last == "disks: 96.0 MiB left")
    snapshot.disks.removeLast()
    #expect(ProgressLine.facts(snapshot, Style()).last == "disks copied")
  }

  @Test func disksOfUnknownOrAbsurdSizeDrawNoAbsurdBar() {
    var snapshot = MigrationSnapshot.mirroring
    snapshot.disks = [DiskFigures(device: "d", copiedBytes: 0, totalBytes: 0)]
    #expect(ProgressLine.text(snapshot, Style()) == "mirroring")
    snapshot.disks = [
      DiskFigures(device: "d", copiedBytes: .max, totalBytes: 1),
      DiskFigures(device: "e", copiedBytes: 0, totalBytes: .max),
      DiskFigures(device: "f", copiedBytes: 0, totalBytes: .max),
    ]
    #expect(ProgressLine.fractionDone(snapshot).map { (0...1).contains($0) } == true)
  }

  @Test func outsideTheTransferThePhaseStandsAlone() {
    var snapshot = MigrationSnapshot.transferring
    snapshot.phase = Word(code: swo_phase.SWO_PHASE_ACTIVATING.number, name: "activating")
    #expect(ProgressLine.text(snapshot, Style()) == "activating")
  }

  @Test("figures that are missing or absurd draw no absurd bar")
  func absurdFigures() {
    var figures = Figures()
    #expect(ProgressLine.fractionDone(figures) == nil)
    figures[.ramTotalBytes] = 0
    figures[.ramRemainingBytes] = 5
    #expect(ProgressLine.fractionDone(figures) == nil)
    figures[.ramTotalBytes] = 4
    figures[.ramRemainingBytes] = .max
    #expect(ProgressLine.fractionDone(figures) == 0)
    for fraction in [-1.0, 0, 0.5, 1, 2, .nan, .infinity] {
      #expect(ProgressLine.bar(fraction, width: 10, Style()).count == 12)
    }
    var snapshot = MigrationSnapshot.transferring
    snapshot.figures[.predictedBlackoutMicroseconds] = .max
    snapshot.figures[.rateBytesPerSecond] = .max
    #expect(ProgressLine.text(snapshot, Style()).count < 80)
  }
}
