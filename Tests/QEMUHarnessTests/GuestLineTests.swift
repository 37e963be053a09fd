import DemoGuest
import Testing

@Suite("The guest's output")
struct GuestOutput {
  @Test("is read line by line, in pieces of any size")
  func readsLines() {
    let bytes = Array("B\nT00000001\nW10000002a\nE000000000\nT00000002\nT000".utf8)
    let expected: [GuestLine] = [
      .booted, .tick(1), .written(disk: 1, sequence: 42), .refused(disk: 0, sequence: 0), .tick(2),
    ]
    for size in 1...bytes.count {
      var reader = GuestLineReader()
      let lines = stride(from: 0, to: bytes.count, by: size).flatMap {
        reader.read(bytes[$0..<min($0 + size, bytes.count)])
      }
      #expect(lines == expected)
      #expect(reader.unreadableLines == 0)
      #expect(reader.pending == Array("T000".utf8))
    }
  }

  @Test("no rest of a line reads as a line")
  func restsAreUnreadable() {
    for line in ["T0000001f", "W30000001f", "E00000001f"] {
      for cut in 1...line.utf8.count {
        #expect(GuestLine(Array(line.utf8.dropFirst(cut))) == nil)
      }
    }
  }

  @Test("what the guest does not write is unreadable")
  func rejects() {
    for line in ["", "b", "BB", "T0000000G", "T000000001", "W400000001", "X000000001", "T0000001F"]
    {
      #expect(GuestLine(Array(line.utf8)) == nil)
    }
    var reader = GuestLineReader()
    #expect(reader.read([UInt8](repeating: 0x41, count: 100_000)) == [])
    #expect(reader.pending.count <= GuestLineReader.longestLine + 1)
    #expect(reader.read(Array("\nB\n".utf8)) == [.booted])
    #expect(reader.unreadableLines == 1)
  }

  @Test("a numbered sector reads back, and any changed byte is noticed")
  func numberedSectors() {
    let sector = NumberedSector(disk: 3, sequence: 0x0102_0304, sectors: 1000)
    #expect(sector.block == 0x0102_0304 % 1000)
    let bytes = sector.bytes
    #expect(NumberedSector(bytes: bytes) == sector)
    for offset in bytes.indices {
      var changed = bytes
      changed[offset] ^= 0x40
      #expect(NumberedSector(bytes: changed) == nil)
    }
    #expect(NumberedSector(bytes: bytes.dropLast()) == nil)
  }
}
