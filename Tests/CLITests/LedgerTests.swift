import Foundation
import FoundationXML
import Testing

@testable import CLI

@Suite("Ledger")
struct LedgerTests {
  @Test func theTableIsAligned() {
    let lines = LedgerTable.lines(.completed, Style())
    #expect(
      lines == [
        "where the blackout went         start    length",
        "last RAM and device state    0.000 ms  2.101 ms  ████████████████████",
        "grant on its way             2.101 ms  0.143 ms                     ██",
        "activation                   2.244 ms  0.970 ms                      ██████████",
        "source STOP → target RESUME            3.214 ms  ± 0.120 ms",
        "QEMU's own downtime figure                 2 ms",
      ])
  }

  @Test func aNarrowPlaceGetsNoDrawing() {
    var style = Style()
    style.width = 60
    #expect(LedgerTable.lines(.completed, style).allSatisfy { !$0.contains("█") })
  }

  @Test func beforeTheEndThereIsNone() {
    #expect(LedgerTable.lines(.transferring, Style()).isEmpty)
  }

  @Test("absurd figures are printed, not trapped on")
  func absurdParts() {
    var snapshot = MigrationSnapshot.completed
    snapshot.ledger = [
      LedgerPart(name: "a", startMicroseconds: .max, lengthMicroseconds: .max),
      LedgerPart(name: "b", startMicroseconds: .min, lengthMicroseconds: -1),
      LedgerPart(name: "c", startMicroseconds: 0, lengthMicroseconds: 0),
    ]
    #expect(LedgerTable.lines(snapshot, Style()).count == 6)
    snapshot.figures[.blackoutMicroseconds] = .max
    #expect(LedgerTable.lines(snapshot, Style()).count == 6)
    #expect(throws: Never.self) { try parsed(LedgerDrawing.text(snapshot, title: "absurd")) }
    snapshot.figures[.blackoutMicroseconds] = 0
    #expect(throws: Never.self) { try parsed(LedgerDrawing.text(snapshot, title: "absurd")) }
  }

  @Test("the drawing is XML with a bar for each part, in place")
  func drawing() throws {
    let text = LedgerDrawing.text(.completed, title: "<vm> & \"100\"\u{1}")
    let document = try parsed(text)
    func texts(_ path: String) throws -> [String] {
      try document.nodes(forXPath: path).compactMap(\.stringValue)
    }
    #expect(try texts("/*[local-name()='svg']/*[local-name()='title']") == ["<vm> & \"100\""])
    let starts = try texts("//*[local-name()='rect'][@rx]/@x").compactMap(Double.init)
    let widths = try texts("//*[local-name()='rect'][@rx]/@width").compactMap(Double.init)
    try #require(starts.count == 3 && widths.count == 3)
    for part in 1..<3 {
      #expect(abs(starts[part] - starts[part - 1] - widths[part - 1]) < 0.02)
    }
    #expect(text.contains("3.214 ms ± 0.120 ms"))
    #expect(text.contains(">grant on its way<"))
  }

  @Test func aDrawingWithoutABlackoutSaysSo() throws {
    let text = LedgerDrawing.text(.transferring, title: "vm")
    #expect(throws: Never.self) { try parsed(text) }
    #expect(text.contains("No blackout was measured."))
  }

  @Test("grid lines are round, and at most ten")
  func gridSteps() {
    for total: Int64 in [1, 99, 500, 3214, 10_000, 123_456, 9_999_999, .max] {
      let step = LedgerDrawing.gridStep(total)
      #expect(step > 0 && total / step <= 10, "\(total)")
    }
    #expect(LedgerDrawing.gridStep(3214) == 500)
  }

  private func parsed(_ text: String) throws -> XMLDocument {
    try XMLDocument(xmlString: text)
  }
}
