import DemoGuest
import Testing

@testable import CLI

@Suite("Ticks of the demonstration")
struct TickRecordTests {
  private func line(_ count: UInt32) -> [UInt8] {
    let digits = String(count, radix: 16)
    return Array("T\(String(repeating: "0", count: 8 - digits.count))\(digits)\n".utf8)
  }

  @Test("the gap is from the last tick there to the first tick here")
  func gap() {
    var record = TickRecord()
    for count: UInt32 in 1...5 {
      record.record(line(count), from: 0, at: UInt64(count) * 1_000_000)
    }
    record.record(line(6), from: 1, at: 9_000_000)
    record.record(line(7), from: 1, at: 10_000_000)
    #expect(
      record.moves == [
        TickRecord.Move(
          lastCount: 5, firstCount: 6, gapNanoseconds: 4_000_000, usualNanoseconds: 1_000_000)
      ])
    #expect(record.tickCount == 7)
    #expect(record.holes == 0 && record.ticksFromElsewhere == 0)
  }

  @Test("a line that begins on one machine and ends on the next belongs to the next")
  func lineOnBothSides() {
    var record = TickRecord()
    record.record(line(1) + line(2).prefix(4), from: 0, at: 1)
    record.record(line(2).dropFirst(4) + line(3), from: 1, at: 5)
    #expect(record.moves.map(\.lastCount) == [1])
    #expect(record.moves.map(\.firstCount) == [2])
    #expect(record.holes == 0)
  }

  @Test func aMissingOrRepeatedTickIsAHole() {
    var record = TickRecord()
    for count: UInt32 in [1, 2, 4, 4] { record.record(line(count), from: 0, at: 1) }
    #expect(record.holes == 2)
  }

  @Test("a tick of the machine that the guest has left is told, and no move back")
  func tickFromElsewhere() {
    var record = TickRecord()
    record.record(line(1), from: 0, at: 1)
    record.record(line(2), from: 1, at: 2)
    record.record(line(2), from: 0, at: 3)
    #expect(record.ticksFromElsewhere == 1)
    #expect(record.moves.count == 1)
  }

  @Test func clocksThatGoBackDoNotTrap() {
    var record = TickRecord()
    record.record(line(9), from: 0, at: 10)
    record.record(line(3), from: 0, at: 5)
    record.record(line(1), from: 1, at: 0)
    #expect(record.moves.count == 1)
  }
}
