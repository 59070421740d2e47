"""A small labelled corpus made here: one document of each of 25 kinds, invented from head to foot.

Most are PDFs with a text layer, two are pictures that OCR has to read. Names, firms and places do not exist.
"""

import csv
from pathlib import Path
from typing import Final

from tests import documents

#: Label and text; the first line is the heading.
TEXTS: Final = {
    "invoice": """INVOICE
Brindlemoor Tools Ltd, 4 Cask Lane, Ostrey
Invoice number: 20418        Invoice date: 3 March 2025
Bill to: Tarn & Halloway Joinery, Dock Road 9
Description                Qty     Unit price     Amount
Bench vice 150 mm            2          84.00     168.00
Chisel set, six pieces       1          62.50      62.50
Subtotal 230.50    VAT 20 % 46.10    Total due 276.60
Payment terms: 30 days. Please quote the invoice number.""",
    "receipt": """CORNERLEAF MARKET
Mill Street 12  Tel 555 0142
03/03/2025 17:22  Till 2  Cashier 07
Milk 1 l            1.19
Rye bread           2.80
Apples 1.2 kg       3.36
SUBTOTAL            7.35
TAX                 0.51
TOTAL               7.86
CASH               10.00
CHANGE              2.14
Thank you for shopping with us""",
    "letter": """Elowen Marsh
7 Fernside, Ostrey
12 April 2025
Dear Mr Quillon,
thank you for your letter of last week. I was glad to hear that
the roof has been mended and that the garden survived the storm.
We would be pleased to visit you in May, if that still suits you.
Please give my regards to your sister.
Yours sincerely,
Elowen Marsh""",
    "resume": """Tobin Arkwell
Curriculum vitae
tobin@example.org   555 0177   Ostrey
Work experience
2019 - 2025  Site engineer, Calderbeck Bridges
2016 - 2019  Assistant engineer, Norrland Rail
Education
2016  BEng Civil Engineering, University of Ostrey
Skills
Structural analysis, surveying, project planning, German (fluent)
References available on request""",
    "bank_statement": """Harbour Mutual Bank
Statement of account   1 March 2025 to 31 March 2025
Account number 00417733   Sort code 10-20-30
Opening balance 1,204.11
Date     Description           Withdrawals   Deposits   Balance
03 Mar   Direct debit rent          640.00                564.11
14 Mar   Salary                                2,110.00  2,674.11
22 Mar   Card payment                35.20              2,638.91
Closing balance 2,638.91""",
    "contract": """SERVICE AGREEMENT
This agreement is made between Calderbeck Bridges Ltd ("the Client")
and Arkwell Survey ("the Contractor").
1. Scope. The Contractor shall provide the services in Schedule A.
2. Term. This agreement commences on 1 May 2025 and continues for one year.
3. Fees. The Client shall pay the Contractor within thirty days.
4. Confidentiality. Neither party shall disclose confidential information.
5. Termination. Either party may terminate upon ninety days' notice.
6. Governing law. This agreement is governed by the laws of Ostrey.
IN WITNESS WHEREOF the parties have executed this agreement.
Signature ______________      Signature ______________""",
    "purchase_order": """PURCHASE ORDER
PO number: 77-3109        Order date: 9 January 2025
Vendor: Brindlemoor Tools Ltd     Ship to: Tarn & Halloway, Dock Road 9
Item   Part no.   Description         Qty   Unit price   Total
1      BV-150     Bench vice            4        84.00   336.00
2      CS-6       Chisel set            2        62.50   125.00
Requested delivery date: 20 January 2025
Authorized by: purchasing department""",
    "payslip": """PAYSLIP
Employer: Norrland Rail    Pay period: March 2025   Pay date: 28 March
Employee: T. Arkwell   Employee no. 4471   Tax code 1100L
Earnings                  Deductions
Basic salary 2,800.00     Income tax 412.00
Overtime 150.00           National insurance 201.00
Gross pay 2,950.00        Total deductions 613.00
Net pay 2,337.00
Year to date: gross 8,850.00""",
    "meeting_minutes": """MINUTES OF THE MEETING
Allotment Association of Ostrey, 6 February 2025, 19:00
Present: Marsh (chair), Quillon, Arkwell   Apologies: Halloway
1. Approval of the minutes of the previous meeting: approved.
2. Treasurer's report: the accounts were presented and accepted.
3. Water supply: it was resolved to replace the pump.
Action item: Quillon to obtain three quotations by March.
Next meeting: 6 March. The meeting was adjourned at 20:40.""",
    "memo": """MEMORANDUM
TO: All staff
FROM: Facilities office
DATE: 14 January 2025
SUBJECT: Lift out of service
The lift in the north wing will be out of service from Monday.
Please use the stairs or the lift in the south wing.
Deliveries should be announced at the reception desk.""",
    "press_release": """FOR IMMEDIATE RELEASE
Norrland Rail opens electric line to the coast
OSTREY, 2 June 2025 - Norrland Rail today announced that trains will
run to the coast without diesel from July.
"This is a great day for the region," said the managing director.
About Norrland Rail: founded in 1911, the company runs forty trains a day.
Media contact: press@example.org, 555 0110
###""",
    "scientific_paper": """Moss growth on shaded brick: a three-year study
E. Marsh, T. Quillon   Department of Botany, University of Ostrey
Abstract. We measured moss cover on 48 walls and show that shade
explains most of its variance (p < 0.01).
Keywords: moss, brick, microclimate
1 Introduction
Earlier work [1, 2] has considered roofs only.
2 Methods   3 Results   4 Discussion
References
[1] A. Author et al. Journal of Walls 12 (2019), 33-41.""",
    "recipe": """Barley soup with leeks
Serves 4   Preparation time 15 minutes   Cooking time 40 minutes
Ingredients
150 g pearl barley, 2 leeks, 1 tablespoon butter, 1 l stock
1 teaspoon salt, pepper, chopped parsley
Method
1. Melt the butter in a large pot and stir in the sliced leeks.
2. Add barley and stock, bring to the boil, then simmer for 40 minutes.
3. Season to taste and serve hot.""",
    "menu": """THE LANTERN KITCHEN
Starters
Barley soup with leeks 6.50
Smoked trout salad 9.00
Main courses
Roast chicken with potatoes 17.50
Mushroom risotto 15.00
Desserts
Apple tart with cream 7.00
Drinks
House wine, glass 5.50""",
    "prescription": """Dr. H. Fenwick, General Practice
PRESCRIPTION  Rx
Patient: O. Reed   Date of birth: 4 May 1971   Date: 11 March 2025
Amoxicillin 500 mg capsules
Take one capsule three times daily for seven days
Dispense: 21   Refills: 0
Prescriber's signature ______________""",
    "lab_report": """LABORATORY REPORT
Patient: O. Reed   Specimen: blood   Collected: 11 March 2025
Test               Result    Units     Reference range   Flag
Haemoglobin        13.9      g/dl      12.0 - 16.0
White cell count   11.8      10^9/l    4.0 - 10.0        H
Glucose, fasting   5.1       mmol/l    3.9 - 5.6
Creatinine         71        umol/l    45 - 84
Reported by: clinical pathology""",
    "bill_of_lading": """BILL OF LADING
B/L number: OST-55120    Vessel: Northern Heron   Voyage: 14E
Shipper: Brindlemoor Tools Ltd    Consignee: Halloway Imports
Port of loading: Ostrey    Port of discharge: Velmouth
Marks and numbers   Packages   Description of goods   Gross weight
HI 1-12             12 crates  Hand tools             1,480 kg
Freight prepaid. Shipped on board in apparent good order.
Carrier's signature ______________""",
    "exam_paper": """FINAL EXAMINATION
Mathematics, year 11   Time allowed: 90 minutes   Total marks: 60
Answer all questions. Calculators are not allowed.
1. Solve 3x + 7 = 22. (3 marks)
2. Expand and simplify (x + 2)(x - 5). (4 marks)
3. A triangle has sides of 5, 12 and 13 cm. Show that it is right-angled. (6 marks)
4. Which of the following is prime?  (a) 51  (b) 57  (c) 59  (d) 63  (1 mark)
Candidate number ________""",
    "certificate": """CERTIFICATE OF COMPLETION
This is to certify that
Linnea Vosk
has successfully completed the course
First Aid at Work
Awarded on 18 May 2025
Course director ______________""",
    "insurance_policy": """HOME INSURANCE POLICY
Policy number: HI-902214    Policyholder: E. Marsh
Period of insurance: 1 June 2025 to 31 May 2026   Premium: 214.00
Section 1: Buildings. Sum insured 240,000. Deductible 250.
Section 2: Contents. Sum insured 40,000.
Exclusions: we do not cover wear and tear or flood below ground level.
Conditions: you must report a claim within thirty days.""",
    "lease_agreement": """RESIDENTIAL LEASE AGREEMENT
Landlord: Dock Road Homes   Tenant: L. Vosk
Premises: Flat 3, Dock Road 21, Ostrey
1. Term. The lease begins on 1 August 2025 and ends on 31 July 2026.
2. Rent. The tenant shall pay monthly rent of 740.00 in advance.
3. Security deposit. The tenant has paid a deposit of 1,480.00.
4. Utilities are paid by the tenant. 5. Pets are not permitted.
Signed by landlord and tenant ______________""",
    "utility_bill": """OSTREY WATER AND POWER
Electricity bill    Account number 3310 4471
Billing period 1 February to 28 February 2025
Previous meter reading 20114   Current meter reading 20391
Usage 277 kWh at 0.24        66.48
Standing charge               9.20
Amount due 75.68   Due date 21 March 2025
Service address: 7 Fernside, Ostrey""",
    "manual": """USER MANUAL
Model KT-20 electric kettle
Safety instructions. Read all instructions before use.
WARNING: do not immerse the appliance in water.
1. Parts: lid, water gauge, power switch, base
2. Operation: fill the kettle, place it on the base, press the switch.
3. Cleaning and maintenance: descale monthly.
4. Troubleshooting: if the appliance does not switch on, check the plug.
Technical data: 230 V, 2200 W""",
    "job_description": """JOB DESCRIPTION
Job title: Warehouse supervisor    Department: Logistics
Reports to: head of operations     Location: Ostrey
Purpose of the role: lead a team of twelve in the night shift.
Key responsibilities: plan shifts, check deliveries, train new staff.
Requirements: three years of experience, forklift licence.
We offer: permanent position, 28 days of holiday. How to apply: jobs@example.org""",
    "sheet_music": """Evening Song
Andante
Piano""",
}
#: Kinds that come as pictures: OCR reads them.
PICTURES: Final = frozenset({"receipt", "certificate"})
#: Kinds whose page shows a ruled table.
RULED: Final = frozenset({"invoice", "purchase_order", "lab_report"})


def write(folder: Path) -> Path:
    """Write the documents and their manifest into `folder`; return the manifest."""
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for label in TEXTS:
            name = f"{label}.{'png' if label in PICTURES else 'pdf'}"
            (folder / name).write_bytes(document(label))
            rows.writerow([name, label])
    return manifest


def document(label: str) -> bytes:
    """Return the document of a kind."""
    text = TEXTS[label]
    if label in PICTURES:
        return documents.encoded(documents.page_picture(text), "PNG")
    extra = documents.TABLE if label in RULED else staves() if label == "sheet_music" else b""
    return documents.pdf(pages=1, text=text, extra=extra)


def staves(systems: int = 7) -> bytes:
    """Return the drawing of staves with bar lines and notes that climb and fall."""
    drawn = [b"0.7 w"]
    for system in range(systems):
        base = 640 - 85 * system
        drawn += [b"60 %d m 535 %d l S" % (base + 7 * line, base + 7 * line) for line in range(5)]
        drawn += [b"%d %d m %d %d l S" % (x, base, x, base + 28) for x in (60, 178, 297, 416, 535)]
        for note in range(16):
            x, y = 75 + 29 * note, base + (note * 5 + system * 3) % 9 * 7 // 2
            drawn.append(b"%d %d 7 5 re f %d %d m %d %d l S" % (x, y, x + 7, y + 2, x + 7, y + 24))
    return b"\n".join(drawn)
